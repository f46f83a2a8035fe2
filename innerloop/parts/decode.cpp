// A Net of plain attention blocks on a CPU, at a few places of every row, with a cache of keys and values: decoding.
//
// Compiled by parts/fused_decode.py, once for all shapes. float32. The plain form, whose values it must give, is that
// of Attention, SwiGLU and MixThenMlp. Vectors are the compiler's own, for any processor.
//
// A "line" is one place of one row. Activations are kept with lines in the lanes, (channels, WIDE lines), so that
// norms, rotations and gates are work on whole vectors, and the weights are read as torch keeps them, (out, in), once
// for two panels of WIDE lines. Only attention, in which every line has keys of its own, works line by line.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#ifdef __AVX512F__
constexpr int LANES = 16, COLUMNS = 2, ROWS = 12;  // numbers of a vector; the largest tile, in 32 registers
#else
constexpr int LANES = 8, COLUMNS = 2, ROWS = 6;    // in 16 registers of 8 numbers, or 32 of 4
#endif
constexpr int WIDE = LANES * COLUMNS;              // lines of a panel
constexpr float EPS = 1e-5f;

template <int V> struct Vector {
    typedef float type __attribute__((vector_size(V * 4), aligned(4), may_alias));
    typedef int bits __attribute__((vector_size(V * 4), aligned(4), may_alias));
};
typedef Vector<LANES>::type vec;
typedef Vector<LANES>::bits ivec;

#include "vectors.h"

// Filled in by parts/fused_decode.py, in this order.
struct Block {
    const float *qkv, *out, *up, *down;            // (3 D, D), (D, D), (2 I, D) gate first, (D, I)
    float *k, *v;                                  // of the cache: (rows, heads, length, D / heads)
};

struct Net {
    int layers, width, heads, inner, length, seen; // length: places of a row of the cache; seen: those looked at
    int before, after, last;                       // whether norms stand before a branch, after its sum, at the end
    const Block *blocks;
    const float *cos, *sin;                        // (places, D / heads) of rotary positions, or null
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);  // torch's own threads, of OpenMP, or null
};

// -- arithmetic ------------------------------------------------------------------------------------------------------

// The lane of (a, b), 2 V of them, that lane i takes where halves of segments of 2 S lanes are paired.
template <int V, int S> constexpr int lane(int i) { return i / (2 * S) * (2 * S) + i % S + (i % (2 * S) < S ? 0 : V); }

// Pairs the halves of the segments of a and b, and adds them.
template <int V, int S, size_t... I>
static inline typename Vector<V>::type fold(typename Vector<V>::type a, typename Vector<V>::type b,
                                            std::index_sequence<I...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, lane<V, S>(I)...) + __builtin_shufflevector(a, b, lane<V, S>(I) + S...);
#else
    typedef typename Vector<V>::bits bits;
    return __builtin_shuffle(a, b, bits{lane<V, S>(I)...}) + __builtin_shuffle(a, b, bits{lane<V, S>(I) + S...});
#endif
}

// In lane i the sum of the lanes of part[i], of V vectors, which are used up.
template <int V, int S = V / 2> static inline typename Vector<V>::type sums(typename Vector<V>::type *part) {
#pragma GCC unroll 8
    for (int i = 0; i < S; i++) part[i] = fold<V, S>(part[i], part[i + S], std::make_index_sequence<V>());
    if constexpr (S > 1) return sums<V, S / 2>(part);
    else return part[0];
}

// R channels of a product for C vectors of lines, in registers: y (R, WIDE) = or += w (R, in) x (in, WIDE). Meanwhile
// the weights that follow are fetched, since together they are larger than the nearest cache.
template <int R, int C, bool ADD>
static inline void tile(int in, const float *__restrict w, const float *__restrict x, float *__restrict y) {
    vec sum[R][C];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) sum[r][c] = ADD ? at((const float *)y + r * WIDE + c * LANES) : vec{};
    for (int k = 0; k < in; k++) {
        vec some[C];
        __builtin_prefetch(w + long(R) * in + k * 16, 0, 2);
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) some[c] = at(x + k * WIDE + c * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            vec one = all(w[long(r) * in + k]);
#pragma GCC unroll 2
            for (int c = 0; c < C; c++) sum[r][c] += one * some[c];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) at(y + r * WIDE + c * LANES) = sum[r][c];
}

// The same for every panel: y (panels, out, WIDE), x (panels, in, WIDE); the last panel may have few lines.
template <int R, bool ADD>
static void tiles(int lines, int in, int out, const float *w, const float *x, float *y) {
    for (; lines > LANES; lines -= WIDE, x += in * WIDE, y += out * WIDE) tile<R, COLUMNS, ADD>(in, w, x, y);
    if (lines > 0) tile<R, 1, ADD>(in, w, x, y);
}

// y (panels, out, WIDE) = or += w (out, in) x (panels, in, WIDE): weights are read once for all of these lines.
template <bool ADD> static void product(int lines, int in, int out, const float *w, const float *x, float *y) {
    int o = 0;
    for (; o + ROWS <= out; o += ROWS) tiles<ROWS, ADD>(lines, in, out, w + long(o) * in, x, y + o * WIDE);
    for (; o + 4 <= out; o += 4) tiles<4, ADD>(lines, in, out, w + long(o) * in, x, y + o * WIDE);
    for (; o < out; o++) tiles<1, ADD>(lines, in, out, w + long(o) * in, x, y + o * WIDE);
}

// y = x / rms(x) over the channels of a panel; y may be x.
static void norm(int width, const float *x, float *y) {
    for (int c = 0; c < WIDE; c += LANES) {
        vec sum = vec{}, scale;
        for (int d = 0; d < width; d++) sum += at(x + d * WIDE + c) * at(x + d * WIDE + c);
        sum = sum / float(width) + EPS;
        for (int i = 0; i < LANES; i++) scale[i] = 1.f / std::sqrt(sum[i]);
        for (int d = 0; d < width; d++) at(y + d * WIDE + c) = at(x + d * WIDE + c) * scale;
    }
}

// -- attention of one line -------------------------------------------------------------------------------------------

// out (E, every WIDE-th) = softmax(q k') v over n keys (n, E) of one head, E = N vectors of V; p has room for n, and a
// vector more.
template <int V, int N>
static void attend(int n, const float *q, const float *k, const float *v, float *p, float *out) {
    typedef typename Vector<V>::type part;
    constexpr int E = V * N;
    auto of = [](const float *x, int i) -> const part & { return *(const part *)(x + i * V); };
    part most = part{} - INFINITY;
    for (int i = 0; i < n; i += V) {
        part some[V];
#pragma GCC unroll 16
        for (int j = 0; j < V; j++) {
            const float *key = k + long(std::min(i + j, n - 1)) * E;  // the last one again to the end of a vector
            some[j] = of(q, 0) * of(key, 0);
#pragma GCC unroll 8
            for (int e = 1; e < N; e++) some[j] += of(q, e) * of(key, e);
        }
        const part score = sums<V>(some);
        most = score > most ? score : most;
        *(part *)(p + i) = score;
    }
    float top = most[0], all = 0;
    for (int i = 1; i < V; i++) top = std::max(top, most[i]);
    vec total = vec{};
    for (int i = 0; i < n; i += LANES) {
        at(p + i) = exp_of(at(p + i) - top);
        for (int j = n; j < i + LANES; j++) p[j] = 0;
        total += at(p + i);
    }
    for (int i = 0; i < LANES; i++) all += total[i];
    part sum[N] = {}, other[N] = {};
    for (int i = 0; i < n; i += 2) {  // p[n] is 0, or belongs to the last key
        const long next = std::min(i + 1, n - 1) * E;
        const float weight = i + 1 < n ? p[i + 1] : 0;
#pragma GCC unroll 8
        for (int e = 0; e < N; e++) sum[e] += p[i] * of(v + long(i) * E, e), other[e] += weight * of(v + next, e);
    }
    for (int e = 0; e < E; e++) out[e * WIDE] = (sum[e / V][e % V] + other[e / V][e % V]) / all;
}

typedef void (*Attend)(int, const float *, const float *, const float *, float *, float *);

static Attend attend_of(int width) {
    switch (width) {
        case 8: return attend<8, 1>;
        case 16: return attend<16, 1>;
        case 24: return attend<8, 3>;
        case 32: return attend<16, 2>;
        case 48: return attend<16, 3>;
        case 64: return attend<16, 4>;
        default: return nullptr;
    }
}

static inline void fetch(const float *p, long n) {
    for (long i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

// -- some whole rows -------------------------------------------------------------------------------------------------

constexpr int STRIP = 2 * WIDE;                    // lines between whose products nothing else is done: two panels

struct Rows {
    const Net &net;
    const int64_t *places, *first, *last;          // of all lines of the batch: where they stand, and what they see
    const int each, panels;                        // places of a row; panels at work
    const int D = net.width, E = D / net.heads, I = net.inner;
    const Attend look = attend_of(E);
    Room x, q, cos, sin;                           // (panels, D, WIDE), (lines, D), (panels, E, WIDE) twice
    Room n, h;                                     // of a strip: (2, D, WIDE), (2, max(3 D, 2 I), WIDE)
    Room p;                                        // of a line: weights of its keys

    Rows(const Net &net, const int64_t *places, const int64_t *first, const int64_t *last, int each, int rows)
        : net(net), places(places), first(first), last(last), each(each), panels((rows * each + WIDE - 1) / WIDE),
          x(long(panels) * D * WIDE), q(long(panels) * D * WIDE), cos(long(panels) * E * WIDE),
          sin(long(panels) * E * WIDE), n(D * STRIP), h(std::max(3 * D, 2 * I) * STRIP), p(net.length + 2 * LANES) {}

    // strip(first line of the strip, lines in it) for all of `count` lines.
    template <class F> void strips(int count, F strip) {
        for (int at = 0; at < count; at += STRIP) strip(at, std::min(STRIP, count - at));
    }

    // `count` lines, from line `from` of the batch on: in (.., D) to out (.., D).
    void run(long from, int count, const float *in, float *out) {
        places += from, first += from, last += from;
        load(count, in + from * D);
        for (int l = 0; l < net.layers; l++) {
            Block block = net.blocks[l];
            const long begin = from / each * net.width * net.length;   // of the first row's keys
            block.k += begin, block.v += begin;
            strips(count, [&](int at, int lines) { keys(block, at, lines); });
            strips(count, [&](int at, int lines) { rest(block, at, lines); });
        }
        if (net.last) norm(count, x, x);
        for (int i = 0; i < count; i++)
            for (int d = 0; d < D; d++) out[(from + i) * D + d] = *line(x, D, i, d);
        places -= from, first -= from, last -= from;
    }

    // Where channel d of line i is in (panels, channels, WIDE).
    float *line(float *panels, int channels, int i, int d) const {
        return panels + (long(i / WIDE) * channels + d) * WIDE + i % WIDE;
    }

    void norm(int lines, const float *from, float *to) const {
        for (int i = 0; i < lines; i += WIDE) ::norm(D, from + long(i) * D, to + long(i) * D);
    }

    void load(int count, const float *in) {
        std::memset(x, 0, sizeof(float) * panels * D * WIDE);
        for (int i = 0; i < count; i++)
            for (int d = 0; d < D; d++) *line(x, D, i, d) = in[long(i) * D + d];
        for (int i = 0; net.cos && i < count; i++)
            for (int e = 0; e < E; e++) {
                *line(cos, E, i, e) = net.cos[places[i] * E + e];
                *line(sin, E, i, e) = net.sin[places[i] * E + e];
            }
    }

    // Rotates the pairs (e, e + E / 2) of every head of the queries and keys of a panel, (2 D, WIDE).
    void rotate(const float *c, const float *s, float *qk) const {
        const int half = E / 2 * WIDE;
        for (int head = 0; head < 2 * net.heads; head++, qk += E * WIDE)
            for (int e = 0; e < half; e += LANES) {
                const vec low = ::at(qk + e), high = ::at(qk + half + e);
                ::at(qk + e) = low * ::at(c + e) - high * ::at(s + e);
                ::at(qk + half + e) = high * ::at(c + half + e) + low * ::at(s + half + e);
            }
    }

    // The queries of a strip, kept in q; its keys and values, kept in the cache.
    void keys(const Block &block, int at, int lines) {
        const float *seen = x + long(at) * D;
        if (net.before) norm(lines, seen, n), seen = n;
        product<false>(lines, D, 3 * D, block.qkv, seen, h);
        for (int i = 0; net.cos && i < lines; i += WIDE)
            rotate(cos + long(at + i) * E, sin + long(at + i) * E, h + long(i) * 3 * D);
        const float scale = 1.f / std::sqrt(float(E));
        for (int i = 0; i < lines; i++) {
            const float *own = line(h, 3 * D, i, 0);
            float *query = q + long(at + i) * D;
            for (int d = 0; d < D; d++) query[d] = own[d * WIDE] * scale;
            for (int head = 0; head < net.heads; head++) {
                const long to = (((at + i) / each * net.heads + head) * long(net.length) + places[at + i]) * E;
                const float *k = own + (D + head * E) * WIDE, *v = k + D * WIDE;
                for (int e = 0; e < E; e++) block.k[to + e] = k[e * WIDE], block.v[to + e] = v[e * WIDE];
            }
        }
    }

    // Attention of a line to n (D, every WIDE-th).
    void attention(const Block &block, int i, bool more, float *n) {
        const long begin = std::max<long>(first[i], 0), keys = std::min<long>(last[i] + 1, net.seen) - begin;
        for (int head = 0; head < net.heads; head++) {
            const long row = ((i / each * net.heads + head) * long(net.length) + begin) * E;
            if (more || head + 1 < net.heads) {                        // the head after it, or one of the next row
                fetch(block.k + row + long(net.length) * E, keys * E);
                fetch(block.v + row + long(net.length) * E, keys * E);
            }
            look(int(keys), q + long(i) * D + head * E, block.k + row, block.v + row, p, n + head * E * WIDE);
        }
    }

    // The rest of a block, once all keys of its rows are in the cache.
    void rest(const Block &block, int at, int lines) {
        float *mine = x + long(at) * D;
        for (int i = 0; i < lines; i++) attention(block, at + i, each == 1 && i + 1 < lines, line(n, D, i, 0));
        product<true>(lines, D, D, block.out, n, mine);
        if (net.after) norm(lines, mine, mine);
        const float *seen = mine;
        if (net.before) norm(lines, mine, n), seen = n;
        product<false>(lines, D, 2 * I, block.up, seen, h);
        for (int i = 0; i < lines; i += WIDE) {
            float *gate = h + long(i) * 2 * I, *to = h + long(i) * I;  // (I, WIDE) each, so that `down` sees no gaps
            for (int j = 0; j < I * WIDE; j += LANES) {
                const vec some = ::at(gate + j);
                ::at(to + j) = some / (1.f + exp_of(-some)) * ::at(gate + I * WIDE + j);
            }
        }
        product<true>(lines, I, D, block.down, h, mine);
        if (net.after) norm(lines, mine, mine);
    }
};

extern "C" {

// x, y (rows, each, D); places, first, last (rows, each): where they stand and which keys they see. Writes keys and
// values at `places`. Returns 0, 1 if a place lies outside the cache, or 2 if there is no memory: nothing is thrown.
int decode(const Net *net, const float *x, float *y, const int64_t *places, const int64_t *first, const int64_t *last,
           long rows, int each, int threads) try {
    for (long i = 0; i < rows * each; i++)
        if (places[i] < 0 || places[i] >= net->length) return 1;
    const long share = (rows + threads - 1) / threads;
    const long group = std::max(1L, std::min(share, long(STRIP / each)));  // rows at work at once
    const long groups = (rows + group - 1) / group;
    threads = int(std::max(1L, std::min(long(net->parallel ? threads : 1), groups)));
    std::atomic<long> next{0};
    std::atomic<bool> fine{true};
    auto work = [&] {
        try {
            Rows some(*net, places, first, last, each, int(group));
            for (long g; (g = next++) < groups;)
                some.run(g * group * each, int(std::min(group, rows - g * group)) * each, x, y);
        } catch (const std::bad_alloc &) { fine = false; }
    };
    if (threads == 1) work();
    else net->parallel([](void *f) { (*(decltype(work) *)f)(); }, &work, threads, 0);
    return fine ? 0 : 2;
} catch (const std::bad_alloc &) { return 2; }

// A token of every row by its logits (rows, vocab), and its log probability before temperature; token 0 is never drawn.
// Temperature 0: the likeliest. Else the first token at which the running sum reaches u of the whole.
void draw(const float *logits, const float *temperature, const float *u, int64_t *token, float *logprob, long rows,
          int vocab) {
    for (long r = 0; r < rows; r++, logits += vocab) {
        const auto some = [&](int from) {                              // of a vector of tokens; -inf beyond the last
            vec x = all(-INFINITY);
            std::memcpy(&x, logits + from, sizeof(float) * std::min(LANES, vocab - from));
            return x;
        };
        vec most = some(1), total = vec{}, hot = vec{};
        for (int i = 1 + LANES; i < vocab; i += LANES) most = some(i) > most ? some(i) : most;
        float best = most[0], whole = 0, mass = 0, sum = 0;
        for (int i = 1; i < LANES; i++) best = std::max(best, most[i]);
        const float t = temperature[r], scale = t > 0 ? 1 / t : 1;
        for (int i = 1; i < vocab; i += LANES) {
            total += exp_of(some(i) - best);
            if (scale != 1) hot += exp_of((some(i) - best) * scale);
        }
        for (int i = 0; i < LANES; i++) whole += total[i], mass += (scale == 1 ? total : hot)[i];
        long at = 0;
        for (int from = 1; t > 0 && from < vocab && sum < u[r] * mass; from += LANES) {
            const vec weight = exp_of((some(from) - best) * scale);
            const int count = std::min(LANES, vocab - from);
            for (int i = 0; i < count && sum < u[r] * mass; i++) sum += weight[i], at = from + i;
        }
        token[r] = at ? at : std::max_element(logits + 1, logits + vocab) - logits;
        logprob[r] = logits[token[r]] - best - std::log(whole);
    }
}
}
