// What the compiled parts share: vectors of `vec` and `ivec`, which a file defines before it includes this, and memory.
#pragma once
#include <cstdlib>
#include <cstring>
#include <new>

static inline vec &at(float *p) { return *(vec *)p; }
static inline vec at(const float *p) { return *(const vec *)p; }
static inline vec all(float x) { return x - vec{}; }  // x + 0 would be an addition: it is not x for x = -0

// e^x to a few units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
static inline vec exp_of(vec x) {
    const float top = 87.f, magic = 12582912.f;
    x = x > top ? all(top) : x;
    x = x < -top ? all(-top) : x;
    vec shifted = x * 1.44269504f + magic;
    vec n = shifted - magic;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    ivec bits = ((ivec)shifted << 23) + (127 << 23);
    return p * (vec)bits;
}

// Room for n numbers, where a vector never lies across two lines of the cache.
struct Room {
    long size;
    float *p;
    explicit Room(long n) : size(n), p((float *)std::aligned_alloc(64, (n * 4 + 127) / 64 * 64)) {
        if (!p) throw std::bad_alloc();
        zero();
    }
    Room(const Room &) = delete;
    ~Room() { std::free(p); }
    void zero() { std::memset(p, 0, size * 4); }
    operator float *() const { return p; }
};
