// The loop of parts/orbits.py's blocks on a CPU, forward and backward: h <- net(h + e), so many times, a puzzle at a time,
// so that all of it stays in the cache, and a few places at a time, so that what is between two products stays nearest.
//
// Compiled by parts/fused.py for one shape: N nodes of a place, D channels of a node, E inner. float32. The plain twin,
// whose values it must give, is OrbitBlock.plain. Vectors are the compiler's own, for any processor.
//
//     sums      of the nodes of a place; of each symbol along a line
//     message   back(silu(tell(sum))) for each of them
//     h         own(x) + messages (+ back(3x3 cells about it, and all of its row and column)) = gate, up
//     a         sigmoid(gate) * p / rms(p),   p = gate * up;       y = x + out(a);       z = y / rms(y)
//
// The backward pass keeps nothing of the forward pass but every z and its rms, and works all else out again.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

constexpr int SUM = (D % 16 || E % 16) ? 8 : 16;  // running sums of a long sum: its rounding, on any processor
#ifdef __AVX512F__
constexpr int LANES = SUM, COLUMNS = 4, ROWS = 6;  // numbers of a vector; the largest tile, 32 registers of 16 numbers
#else
constexpr int LANES = 8, COLUMNS = 2, ROWS = 6;    // 16 registers of 8 numbers, or 32 of 4: a larger tile would spill
#endif
constexpr int H = 2 * E;                       // gate and up
constexpr int NODES = N;                       // rows of a place
constexpr int PLACES = N < 48 ? 48 / N : 1;    // of a chunk
constexpr int CHUNK = PLACES * NODES;          // rows of a chunk
constexpr float EPS = 1e-5f;

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#include "vectors.h"

// What a block is: filled in by parts/fused.py, in this order. A loop is blocks one after another.
struct Block {
    int places, prefix, rows, columns;         // places include the prefix; rows x columns are the cells, for `near`
    int symbols, kinds, near, along;           // whether they are heard; kinds of lines
    const int *kind_lines;                     // (kinds + 1)  the first line of each kind
    const int *line_places, *line_place;       // (lines + 1), and the places of each line one after another
    const int *place_lines, *place_line;       // (places + 1), and the lines of each place
    const float *const *weights;               // (out, in) each, as torch keeps them: see Weights
};

// The weights of a block in the order of its parameters, and as (in, out), with room for the other way round.
template <class P> struct Weights {
    P own, out;                                // (H, D), (D, E)
    P symbols_tell, symbols_back;              // (E, D), (H, E)
    std::vector<P> lines_tell, lines_back;     // of each kind, likewise
    P near_look, near_row, near_column;        // (D, 9), (D, 2 columns - 1), (D, 2 rows - 1): by offset
    P near_back;                               // (H, D)

    // each(weight, out, in) for all of them
    template <class F> void visit(const Block &b, F each) {
        lines_tell.resize(b.kinds), lines_back.resize(b.kinds);
        each(own, H, D), each(out, D, E);
        if (b.symbols) each(symbols_tell, E, D), each(symbols_back, H, E);
        for (int k = 0; k < b.kinds; k++) each(lines_tell[k], E, D), each(lines_back[k], H, E);
        if (b.near) each(near_look, D, 9);
        if (b.near && b.along) each(near_row, D, 2 * b.columns - 1), each(near_column, D, 2 * b.rows - 1);
        if (b.near) each(near_back, H, D);
    }
};

// -- arithmetic ------------------------------------------------------------------------------------------------------

static inline vec sigmoid(vec x) { return 1.f / (1.f + exp_of(-x)); }

// The sum of term(i) over every LANES-th i below n, in SUM running sums.
template <class F> static inline float total(int n, F term) {
    vec part[SUM / LANES] = {};
    for (int i = 0; i < n; i += SUM)
#pragma GCC unroll 2
        for (int j = 0; j < SUM / LANES; j++) part[j] += term(i + j * LANES);
    float sum = 0;
    for (vec &some : part)
        for (int i = 0; i < LANES; i++) sum += some[i];
    return sum;
}

// A tile of a product: R rows by C vectors, kept in registers.
template <int IN, int OUT, int R, int C, bool ADD>
static inline void tile(const float *__restrict in, const float *__restrict w, float *__restrict out) {
    vec sum[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) sum[r][c] = ADD ? at((const float *)out + r * OUT + c * LANES) : vec{};
    for (int k = 0; k < IN; k++) {
        vec row[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) row[c] = at(w + k * OUT + c * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            vec one = all(in[r * IN + k]);
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) sum[r][c] += one * row[c];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) at(out + r * OUT + c * LANES) = sum[r][c];
}

template <int IN, int OUT, int C, bool ADD>
static inline void columns(int rows, const float *in, const float *w, float *out) {
    constexpr int R = C == COLUMNS ? ROWS : 8;
    int r = 0;
    for (; r + R <= rows; r += R) tile<IN, OUT, R, C, ADD>(in + r * IN, w, out + r * OUT);
    for (; r + 3 <= rows; r += 3) tile<IN, OUT, 3, C, ADD>(in + r * IN, w, out + r * OUT);
    for (; r < rows; r++) tile<IN, OUT, 1, C, ADD>(in + r * IN, w, out + r * OUT);
}

// out (rows, OUT) = in (rows, IN) w (IN, OUT), or added to what is there.
template <int IN, int OUT, bool ADD>
static inline void product(int rows, const float *in, const float *w, float *out) {
    constexpr int ALL = OUT / LANES, REST = ALL % COLUMNS;
    for (int c = 0; c + COLUMNS <= ALL; c += COLUMNS)
        columns<IN, OUT, COLUMNS, ADD>(rows, in, w + c * LANES, out + c * LANES);
    if constexpr (REST) {
        constexpr int c = ALL - REST;
        columns<IN, OUT, REST, ADD>(rows, in, w + c * LANES, out + c * LANES);
    }
}

template <int IN, int OUT, int C>
static inline void outer_columns(int rows, const float *__restrict in, const float *__restrict g, float *__restrict dw) {
    for (int i = 0; i < IN; i += 4) {
        vec sum[4][C];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) sum[j][c] = at((const float *)dw + (i + j) * OUT + c * LANES);
        for (int r = 0; r < rows; r++) {
            vec row[C];
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) row[c] = at(g + r * OUT + c * LANES);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                vec one = all(in[r * IN + i + j]);
#pragma GCC unroll 4
                for (int c = 0; c < C; c++) sum[j][c] += one * row[c];
            }
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) at(dw + (i + j) * OUT + c * LANES) = sum[j][c];
    }
}

// dw (IN, OUT) += in (rows, IN)^T g (rows, OUT).
template <int IN, int OUT>
static inline void outer(int rows, const float *in, const float *g, float *dw) {
    constexpr int ALL = OUT / LANES, REST = ALL % COLUMNS;
    for (int c = 0; c + COLUMNS <= ALL; c += COLUMNS)
        outer_columns<IN, OUT, COLUMNS>(rows, in, g + c * LANES, dw + c * LANES);
    if constexpr (REST) {
        constexpr int c = ALL - REST;
        outer_columns<IN, OUT, REST>(rows, in, g + c * LANES, dw + c * LANES);
    }
}

static inline void add(int n, const float *x, float scale, float *y) {
    for (int i = 0; i < n; i += LANES) at(y + i) += at(x + i) * scale;
}

static void turn(int rows, int columns, const float *w, float *out) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) out[c * rows + r] = w[r * columns + c];
}

// -- weights, and their gradients ------------------------------------------------------------------------------------

static Weights<const float *> given(const Block &b) {
    Weights<const float *> w;
    int i = 0;
    w.visit(b, [&](const float *&p, int, int) { p = b.weights[i++]; });
    return w;
}

static long count(const Block &b) {
    long all = 0;
    Weights<const float *>().visit(b, [&](const float *, int out, int in) { all += out * in; });
    return all;
}

// (in, out) each: the weights turned, or zeros to add up gradients in.
struct Turned : Weights<float *> {
    Room room;

    explicit Turned(const Block &b) : room(count(b)) {
        float *next = room;
        visit(b, [&](float *&p, int out, int in) { p = next, next += out * in; });
    }
    void read(const Block &b) {
        int i = 0;
        visit(b, [&](float *p, int out, int in) { turn(out, in, b.weights[i++], p); });
    }
    void write(const Block &b, float *to) {
        visit(b, [&](float *p, int out, int in) { turn(in, out, p, to), to += out * in; });
    }
};

// -- one puzzle --------------------------------------------------------------------------------------------------------

struct Said {                                  // by sets of places: rows are places, or lines times nodes
    Room sum, told, glow, said;                // (rows, D), tell(sum) (rows, E), silu of it, back of that (rows, H)
    explicit Said(long rows) : sum(rows * D), told(rows * E), glow(rows * E), said(rows * H) {}

    void speak(long from, long rows, const float *tell, const float *back) {
        product<D, E, false>(rows, sum + from * D, tell, told + from * E);
        for (long i = from * E; i < (from + rows) * E; i += LANES) at(glow + i) = at(told + i) * sigmoid(at(told + i));
        product<E, H, false>(rows, glow + from * E, back, said + from * H);
    }
    // From the gradient of `said` to that of `sum`, which takes its place.
    void unspeak(long from, long rows, float *dsaid, const float *tell, const float *back, float *dtell, float *dback) {
        float *g = dsaid + from * H, *t = told + from * E, *a = glow + from * E, *x = sum + from * D;
        outer<E, H>(rows, a, g, dback);
        product<H, E, false>(rows, g, back, a);
        for (long i = 0; i < rows * E; i += LANES) {
            vec s = sigmoid(at(t + i));
            at(t + i) = at(a + i) * (s + at(t + i) * s * (1.f - s));
        }
        outer<D, E>(rows, x, t, dtell);
        product<E, D, false>(rows, t, tell, x);
    }
};

// A block and its weights: as they are, (out, in), and turned, (in, out).
struct Layer {
    const Block &b;
    Weights<const float *> u;
    Turned w;
    explicit Layer(const Block &b) : b(b), u(given(b)), w(b) { w.read(b); }
};

// A cell that a place looks at: where it begins in a state, and where the weights of its offset do.
struct Tap {
    long from;
    const float *w;
    float *dw;
};

// One block at work on one puzzle.
struct Worker {
    const Layer &layer;
    const Block &b = layer.b;
    const Turned &w = layer.w;
    const Weights<const float *> &u = layer.u;
    Turned d;                                  // gradients of the weights
    Said symbols, lines;
    Room dsymbols, dlines;                     // gradients of what they say
    Room scales;                               // of each line: one over the root of its places
    Room h, a, open, scale, g, seen;           // of a chunk: (CHUNK, H), (CHUNK, E) twice, CHUNK, (CHUNK, D) twice
    std::vector<Tap> taps;                     // of one place

    explicit Worker(const Layer &layer)
        : layer(layer), d(b), symbols(b.symbols ? b.places : 0), lines(line_rows(b.kinds)), dsymbols(symbols.said.size),
          dlines(lines.said.size), scales(line_count()), h(CHUNK * H), a(CHUNK * E), open(CHUNK * E), scale(CHUNK),
          g(CHUNK * D), seen(CHUNK * D) {
        for (int l = 0; l < line_count(); l++) scales[l] = root(b.line_places[l + 1] - b.line_places[l]);
    }

    int line_count() const { return b.kinds ? b.kind_lines[b.kinds] : 0; }
    long line_rows(int kind) const { return kind ? long(b.kind_lines[kind]) * NODES : 0; }
    static float root(int n) { return 1.f / std::sqrt(float(n)); }

    // f(node of line, node of place, scale): for each place of each line, the first of N rows in both.
    template <class F> void along(F f) const {
        for (int l = 0; l < line_count(); l++)
            for (int i = b.line_places[l]; i < b.line_places[l + 1]; i++)
                f(l * NODES, b.line_place[i] * NODES, scales[l]);
    }

    // What a place looks at: those of the nine cells about it that are on the grid, its own the fifth of them; then all
    // of its row and all of its column.
    const std::vector<Tap> &about(int place) {
        taps.clear();
        int cell = place - b.prefix, row = cell / b.columns, column = cell % b.columns;
        if (cell < 0) return taps;
        auto look = [&](int r, int c, const float *w, float *dw, int i) {
            taps.push_back({long(b.prefix + r * b.columns + c) * NODES * D, w + i * D, dw + i * D});
        };
        for (int i = 0; i < 9; i++) {
            int r = row + i / 3 - 1, c = column + i % 3 - 1;
            if (r >= 0 && r < b.rows && c >= 0 && c < b.columns) look(r, c, w.near_look, d.near_look, i);
        }
        for (int c = 0; b.along && c < b.columns; c++) look(row, c, w.near_row, d.near_row, c - column + b.columns - 1);
        for (int r = 0; b.along && r < b.rows; r++) look(r, column, w.near_column, d.near_column, r - row + b.rows - 1);
        return taps;
    }

    void messages(const float *x) {
        symbols.sum.zero(), lines.sum.zero();
        for (int p = 0; b.symbols && p < b.places; p++)
            for (int n = 0; n < NODES; n++) add(D, x + (p * NODES + n) * D, root(NODES), symbols.sum + p * D);
        if (b.symbols) symbols.speak(0, b.places, w.symbols_tell, w.symbols_back);
        along([&](int line, int place, float scale) { add(NODES * D, x + place * D, scale, lines.sum + line * D); });
        for (int k = 0; k < b.kinds; k++)
            lines.speak(line_rows(k), line_rows(k + 1) - line_rows(k), w.lines_tell[k], w.lines_back[k]);
    }

    // h and a of some places from `first` on, and what `ungate` needs: sigmoid(gate), and one over the rms of gate * up.
    void aggregate(const float *x, int first, int places) {
        int rows = places * NODES;
        for (int p = 0; p < places; p++) hear(first + p, h + p * NODES * H);
        product<D, H, true>(rows, x + first * NODES * D, w.own, h);
        if (b.near) look(x, first, places);
        for (int r = 0; r < rows; r++) {
            float *gate = h + r * H, *up = gate + E, *some = a + r * E, *s = open + r * E;
            float sum = total(E, [&](int e) {
                vec p = at(gate + e) * at(up + e);
                at(s + e) = sigmoid(at(gate + e)), at(some + e) = p * at(s + e);
                return p * p;
            });
            scale[r] = 1.f / std::sqrt(sum / E + EPS);
            for (int e = 0; e < E; e += LANES) at(some + e) *= scale[r];
        }
    }

    // The messages to a place, added up.
    void hear(int place, float *to) {
        int some = b.kinds ? b.place_lines[place + 1] - b.place_lines[place] : 0;
        const int *from = b.kinds ? b.place_line + b.place_lines[place] : nullptr;
        const float *symbol = b.symbols ? symbols.said + place * H : nullptr;
        for (int i = 0; i < NODES * H; i += LANES) {
            vec sum = symbol ? at(symbol + i % H) : vec{};
            for (int l = 0; l < some; l++) sum += at(lines.said + from[l] * NODES * H + i) * scales[from[l]];
            at(to + i) = sum;
        }
    }

    void look(const float *x, int first, int places) {
        for (int p = 0; p < places; p++) {
            const std::vector<Tap> &all = about(first + p);
            for (int i = 0; i < NODES * D; i += LANES) {
                vec sum = {};
                for (const Tap &tap : all) sum += at(x + tap.from + i) * at(tap.w + i % D);
                at(seen + p * NODES * D + i) = sum;
            }
        }
        product<D, H, true>(places * NODES, seen, w.near_back, h);
    }

    // z, and one over its rms before the norm for each place, unless `inverse` is null.
    void forward(const float *x, float *z, float *inverse) {
        messages(x);
        for (int first = 0; first < b.places; first += PLACES) {
            int places = std::min(PLACES, b.places - first);
            long from = first * NODES * D;
            aggregate(x, first, places);
            std::memcpy(z + from, x + from, sizeof(float) * places * NODES * D);
            product<E, D, true>(places * NODES, a, w.out, z + from);
            for (int p = first; p < first + places; p++) {
                float *y = z + p * NODES * D;
                float sum = total(NODES * D, [&](int i) { return at(y + i) * at(y + i); });
                float r = 1.f / std::sqrt(sum / (NODES * D) + EPS);
                for (int i = 0; i < NODES * D; i += LANES) at(y + i) *= r;
                if (inverse) inverse[p] = r;
            }
        }
    }

    // g <- the gradient of what was normed.
    void unnorm(int places, const float *z, const float *inverse, const float *dz) {
        for (int p = 0; p < places; p++, z += NODES * D, dz += NODES * D) {
            float c = total(NODES * D, [&](int i) { return at(z + i) * at(dz + i); }) / (NODES * D);
            for (int i = 0; i < NODES * D; i += LANES)
                at(g + p * NODES * D + i) = inverse[p] * (at(dz + i) - at(z + i) * c);
        }
    }

    // h <- its gradient, from that of a in `a`.
    void ungate(int rows) {
        for (int r = 0; r < rows; r++) {
            float *gate = h + r * H, *up = gate + E, *da = a + r * E, *s = open + r * E;
            float dot = total(E, [&](int e) { return at(da + e) * at(s + e) * at(gate + e) * at(up + e); });
            float k = scale[r], c = dot * k * k / E;
            for (int e = 0; e < E; e += LANES) {
                vec g = at(gate + e), u = at(up + e), d = at(da + e) * at(s + e), dp = (d - g * u * c) * k;
                at(up + e) = dp * g;
                at(gate + e) = dp * u + d * (1.f - at(s + e)) * g * u * k;
            }
        }
    }

    // The gradients of the messages to a place, from that of h.
    void unhear(int place, const float *said) {
        if (b.symbols)
            for (int i = 0; i < H; i += LANES) {
                vec sum = {};
                for (int n = 0; n < NODES; n++) sum += at(said + n * H + i);
                at(dsymbols + place * H + i) = sum;
            }
        for (int i = b.kinds ? b.place_lines[place] : 0; b.kinds && i < b.place_lines[place + 1]; i++)
            add(NODES * H, said, scales[b.place_line[i]], dlines + b.place_line[i] * NODES * H);
    }

    void unlook(const float *x, float *dx, int first, int places) {
        int rows = places * NODES;
        outer<D, H>(rows, seen, h, d.near_back);
        product<H, D, false>(rows, h, u.near_back, seen);
        for (int p = 0; p < places; p++)
            for (const Tap &tap : about(first + p))
                for (int i = 0; i < NODES * D; i += LANES) {
                    vec g = at(seen + p * NODES * D + i);
                    at(dx + tap.from + i) += g * at(tap.w + i % D);
                    at(tap.dw + i % D) += g * at(x + tap.from + i);
                }
    }

    void unmessages(float *dx) {
        if (b.symbols)
            symbols.unspeak(0, b.places, dsymbols, u.symbols_tell, u.symbols_back, d.symbols_tell, d.symbols_back);
        for (int p = 0; b.symbols && p < b.places; p++)
            for (int n = 0; n < NODES; n++) add(D, symbols.sum + p * D, root(NODES), dx + (p * NODES + n) * D);
        for (int k = 0; k < b.kinds; k++)
            lines.unspeak(line_rows(k), line_rows(k + 1) - line_rows(k), dlines, u.lines_tell[k], u.lines_back[k],
                          d.lines_tell[k], d.lines_back[k]);
        along([&](int line, int place, float scale) { add(NODES * D, lines.sum + line * D, scale, dx + place * D); });
    }

    void backward(const float *x, const float *z, const float *inverse, const float *dz, float *dx) {
        messages(x);
        dlines.zero();
        std::memset(dx, 0, sizeof(float) * b.places * NODES * D);
        for (int first = 0; first < b.places; first += PLACES) {
            int places = std::min(PLACES, b.places - first), rows = places * NODES;
            const float *here = x + first * NODES * D;
            aggregate(x, first, places);
            unnorm(places, z + first * NODES * D, inverse + first, dz + first * NODES * D);
            add(rows * D, g, 1.f, dx + first * NODES * D);
            outer<E, D>(rows, a, g, d.out);
            product<D, E, false>(rows, g, u.out, a);
            ungate(rows);
            outer<D, H>(rows, here, h, d.own);
            product<H, D, true>(rows, h, u.own, dx + first * NODES * D);
            if (b.near) unlook(x, dx, first, places);
            for (int p = 0; p < places; p++) unhear(first + p, h + p * NODES * H);
        }
        unmessages(dx);
    }
};

// -- all puzzles of a batch, shared out over threads -----------------------------------------------------------------

struct Loop {
    int layers, rounds;
    const Block *blocks;
    // torch's own threads, of OpenMP, or null: others beside them would wait for each other's cores
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    long size() const { return long(blocks->places) * NODES * D; }

    // What a call sees: what the one before it gave, and e at the beginning of a round.
    const float *seen(int call, const float *before, const float *e, float *room) const {
        if (!e || call % layers) return before;
        std::memcpy(room, before, sizeof(float) * size());
        add(size(), e, 1.f, room);
        return room;
    }
};

// work(thread, from, to) for all of a batch; whether there was memory for all of it.
template <class F> static bool share(const Loop &loop, long batch, int threads, F work) {
    threads = int(std::max(1L, std::min(long(threads), batch)));
    std::atomic<bool> fine{true};
    auto part = [&](int t) {
        try {
            work(t, batch * t / threads, batch * (t + 1) / threads);
        } catch (const std::bad_alloc &) { fine = false; }
    };
    if (threads == 1) {
        part(0);
    } else if (loop.parallel) {
        std::atomic<int> next{0};
        auto all = [&] { for (int t; (t = next++) < threads;) part(t); };
        loop.parallel([](void *f) { (*(decltype(all) *)f)(); }, &all, threads, 0);
    } else {
        std::vector<std::thread> others;
        int t = 1;
        try {
            for (; t < threads; t++) others.emplace_back(part, t);
        } catch (const std::system_error &) {}  // no more threads: this one does the rest
        for (part(0); t < threads; t++) part(t);
        for (auto &other : others) other.join();
    }
    return fine;
}

static std::deque<Layer> layers_of(const Loop &loop) {
    std::deque<Layer> layers;
    for (int l = 0; l < loop.layers; l++) layers.emplace_back(loop.blocks[l]);
    return layers;
}

static std::deque<Worker> workers_of(const std::deque<Layer> &layers) {
    std::deque<Worker> workers;
    for (auto &layer : layers) workers.emplace_back(layer);
    return workers;
}

extern "C" {

// h, z: (batch, places, N, D), z what the loop gives; e, or null, is added before every round. Unless null, `kept` takes
// what every call gives (rounds x layers, batch, places, N, D), and `inverse` one over its rms (., batch, places).
// Returns whether there was memory for it; nobody may throw through ctypes.
bool forward(const Loop *loop, const float *h, const float *e, float *z, float *kept, float *inverse, long batch,
             int threads) try {
    const auto layers = layers_of(*loop);
    const long one = loop->size(), places = loop->blocks->places;
    return share(*loop, batch, threads, [&](int, long from, long to) {
        auto workers = workers_of(layers);
        Room mine(one);
        for (long i = from; i < to; i++) {
            const float *now = h + i * one, *some = e ? e + i * one : nullptr;
            for (int call = 0; call < loop->rounds * loop->layers; call++) {
                long at = call * batch + i;
                const float *x = loop->seen(call, now, some, mine);
                float *next = kept ? kept + at * one : z + i * one;
                workers[call % loop->layers].forward(x, next, kept ? inverse + at * places : nullptr);
                now = next;
            }
            if (kept) std::memcpy(z + i * one, now, sizeof(float) * one);
        }
    });
} catch (const std::bad_alloc &) { return false; }

// dz, dh, de as h and e (de null if there is no e); grads: (threads, weights), a part for each thread.
bool backward(const Loop *loop, const float *h, const float *e, const float *kept, const float *inverse, const float *dz,
              float *dh, float *de, float *grads, long batch, int threads) try {
    const auto layers = layers_of(*loop);
    const long one = loop->size(), places = loop->blocks->places, all = count(*loop->blocks);
    return share(*loop, batch, threads, [&](int thread, long from, long to) {
        auto workers = workers_of(layers);
        Room mine(one), other(one);
        for (long i = from; i < to; i++) {
            const float *now = dz + i * one, *some = e ? e + i * one : nullptr;
            for (int call = loop->rounds * loop->layers - 1; call >= 0; call--) {
                long at = call * batch + i;
                const float *x = loop->seen(call, call ? kept + (at - batch) * one : h + i * one, some, mine);
                float *dx = call % 2 ? (float *)other : dh + i * one;  // the last of them, the first call's, is dh
                workers[call % loop->layers].backward(x, kept + at * one, inverse + at * places, now, dx);
                if (de && call % loop->layers == 0) add(one, dx, 1.f, de + i * one);
                now = dx;
            }
        }
        for (int l = 0; l < loop->layers; l++) workers[l].d.write(*loop->blocks, grads + (thread * loop->layers + l) * all);
    });
} catch (const std::bad_alloc &) { return false; }
}
