// out = W x + bias for packed weights and float rows, by way of 8-bit activations with a scale for every 32.
#pragma once
#include "dot.h"

// `codes` [panels, groups, 256 or 512] bytes, `scales` [panels, groups, 1 or 2, 16] float16 (the second: shifts),
// `bias` [outputs] float32 or NULL. Outputs are padded to panels of 16, inputs to groups of 32, both with zeros.
typedef struct {
    const uint8_t *codes;
    const uint16_t *scales;
    const float *bias;
    int32_t outputs, inputs, kind, groups;
} Matrix;

INLINE int panels_of(const Matrix *m) { return (m->outputs + PANEL - 1) / PANEL; }

// Rows in 8 bits: for each block of rows, group by group, [rows of the block, 32] bytes. `start` is -8 times the sum
// of a group's bytes (what the codes' offset adds to a product), `shift` that sum times the scale.
typedef struct {
    int8_t *bytes;
    float *scale, *shift;
    int32_t *start;
    int rows, groups;
} Rows;

enum { ROW_BLOCK = 16, ROWS_IN_CACHE = 8 * ROW_BLOCK, GROUPS_OF_TASK = 32 };

// How many of the rows that are left go through together.
INLINE int block_size(int left) {
    return left >= ROW_BLOCK ? ROW_BLOCK : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static size_t rows_bytes(size_t rows, size_t groups) { return rows * groups * (GROUP + 12) + 256; }

static Rows rows_in(char *memory, int rows, int groups) {
    size_t n = (size_t)rows * (size_t)groups;
    float *scale = (float *)(memory + n * GROUP);
    return (Rows){(int8_t *)memory, scale, scale + n, (int32_t *)(scale + 2 * n), rows, groups};
}

INLINE void quantize_group(const float *x, int8_t *bytes, float *scale, float *shift, int32_t *start) {
#if defined(__AVX512F__)
    __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    __m512 inverse = _mm512_set1_ps(top > 0 ? 127.0f / top : 0.0f);
    __m512i p = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), q = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
    _mm_storeu_si128((__m128i *)bytes, _mm512_cvtsepi32_epi8(p));
    _mm_storeu_si128((__m128i *)(bytes + 16), _mm512_cvtsepi32_epi8(q));
    int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(p, q));
#else
    float top = 0;
    for (int i = 0; i < GROUP; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    float inverse = top > 0 ? 127.0f / top : 0.0f;
    int32_t total = 0;
    for (int i = 0; i < GROUP; i++) {
        int32_t q = (int32_t)rintf(x[i] * inverse);
        bytes[i] = (int8_t)q;
        total += q;
    }
#endif
    *scale = top / 127.0f;
    *shift = *scale * (float)total;
    *start = -8 * total;
}

// What is put in 8 bits: x [rows, width], after its RMS norm where that has weights.
typedef struct {
    const float *x;
    int width;
    const float *norm;  // [width], or NULL
    float eps;
} Source;

INLINE float norm_scale(const float *x, int n, float eps) {
    Floats squares = splat(0);
    int i = 0;
    for (; i + 16 <= n; i += 16) squares = fma16(load(x + i), load(x + i), squares);
    float total = sum(squares);
    for (; i < n; i++) total += x[i] * x[i];
    return 1.0f / sqrtf(total / (float)n + eps);
}

INLINE void read_group(const Source *s, const float *row, float scale, int g, float *out) {
    int at = g * GROUP, count = s->width - at < GROUP ? s->width - at : GROUP;
    if (count < GROUP) {
        memset(out, 0, sizeof(float) * GROUP);
        for (int i = 0; i < count; i++) out[i] = s->norm ? row[at + i] * scale * s->norm[at + i] : row[at + i];
    } else
        for (int i = 0; i < GROUP; i += 16) {
            Floats x = load(row + at + i);
            if (s->norm) x = x * splat(scale) * load(s->norm + at + i);
            store(out + i, x);
        }
}

// A task is a block of rows, whose scales share cache lines; few rows are cut along their length as well.
INLINE int groups_of_task(const Rows *rows) { return rows->rows < 2 * ROW_BLOCK ? GROUPS_OF_TASK : rows->groups; }

static int quantizing_tasks(const Rows *rows) {
    int blocks = 0, cut = groups_of_task(rows);
    for (int first = 0; first < rows->rows; first += block_size(rows->rows - first)) blocks++;
    return blocks * ((rows->groups + cut - 1) / cut);
}

static void quantize_task(const Rows *rows, int task, const Source *source) {
    int cut = groups_of_task(rows), cuts = (rows->groups + cut - 1) / cut, first = 0;
    for (int block = task / cuts; block; block--) first += block_size(rows->rows - first);
    int n = block_size(rows->rows - first), from = task % cuts * cut;
    int to = from + cut < rows->groups ? from + cut : rows->groups;
    for (int r = 0; r < n; r++) {
        const float *row = source->x + (size_t)(first + r) * source->width;
        float scale = source->norm ? norm_scale(row, source->width, source->eps) : 1.0f, values[GROUP];
        for (int g = from; g < to; g++) {
            size_t at = (size_t)first * rows->groups + (size_t)g * n + r;
            read_group(source, row, scale, g, values);
            quantize_group(values, rows->bytes + at * GROUP, rows->scale + at, rows->shift + at, rows->start + at);
        }
    }
}

// Sixteen outputs for `n` rows from `first` on. The order of sums does not depend on n.
INLINE void tile(int kind, int n, const Matrix *m, int panel, const Rows *rows, int first, Floats *out) {
    size_t at = (size_t)first * rows->groups, block = (size_t)panel * rows->groups;
    const int8_t *x = rows->bytes + at * GROUP;
    const float *scale = rows->scale + at, *shift = rows->shift + at;
    const int32_t *start = rows->start + at;
    const uint8_t *codes = m->codes + block * code_bytes(kind);
    const uint16_t *scales = m->scales + block * scale_count(kind);
    Floats total[ROW_BLOCK];
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) total[r] = splat(0);
    for (int g = 0; g < rows->groups; g++) {
        for (int i = 0; i < code_bytes(kind); i += 64) __builtin_prefetch(codes + 4096 + i);
        Codes c = unpack(kind, codes);
        Floats s = halves(scales), low = is_shifted(kind) ? halves(scales + PANEL) : splat(0);
#pragma GCC unroll 16
        for (int r = 0; r < n; r++) {
            Floats product = __builtin_convertvector(dot(kind, &c, x + r * GROUP, start[r]), Floats);
            total[r] = fma16(product, s * splat(scale[r]), total[r]);
            if (is_shifted(kind)) total[r] = fma16(low, splat(shift[r]), total[r]);
        }
        codes += code_bytes(kind), scales += scale_count(kind);
        x += n * GROUP, scale += n, shift += n, start += n;
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) out[r] = total[r];
}

INLINE void tile_of(int kind, int n, const Matrix *m, int panel, const Rows *rows, int first, Floats *out) {
    switch (n) {
        case 1: tile(kind, 1, m, panel, rows, first, out); break;
        case 2: tile(kind, 2, m, panel, rows, first, out); break;
        case 4: tile(kind, 4, m, panel, rows, first, out); break;
        case 8: tile(kind, 8, m, panel, rows, first, out); break;
        default: tile(kind, ROW_BLOCK, m, panel, rows, first, out);
    }
}

// Sixteen outputs, bias included, of a block of n rows.
static void outputs_of(const Matrix *m, int panel, const Rows *rows, int first, int n, Floats *out) {
    switch (m->kind) {
        case INT4: tile_of(INT4, n, m, panel, rows, first, out); break;
        case INT4_SYMMETRIC: tile_of(INT4_SYMMETRIC, n, m, panel, rows, first, out); break;
        default: tile_of(INT8, n, m, panel, rows, first, out);
    }
    if (!m->bias) return;
    Floats bias = splat(0);
    int left = m->outputs - panel * PANEL;
    for (int i = 0; i < PANEL && i < left; i++) bias[i] = m->bias[panel * PANEL + i];
    for (int r = 0; r < n; r++) out[r] += bias;
}

enum Then { KEEP, ADD, GATE };  // out = y; out += y; out = silu(y of the first matrix) · (y of the second)

// A low-rank pair beside a matrix, y += B (A x), in bfloat16: Hu et al., "LoRA", arXiv:2106.09685.
typedef struct {
    const uint16_t *a;  // [rank, inputs]
    const uint16_t *b;  // [panels, rank, 16], zero beyond the outputs
    int32_t rank, unused;
} Pair;

// What the rows of a product have beside its matrices, each its own or nothing.
typedef struct {
    const Pair *const *adapters;  // [rows]
    const float *values;          // [rows, count, most_rank]: A x
    int first, count, most_rank;  // an adapter's pair beside the first matrix
} Lows;

// The products of the same rows with several matrices, whose outputs lie side by side in `out` [rows, stride].
typedef struct {
    const Matrix *matrices;
    int count;
    enum Then then;
    const Rows *rows;
    float *out;
    size_t stride;
    const Lows *lows;  // NULL where no row has an adapter
} Product;

INLINE void gate(Floats *y, const Floats *up, int n) {
    for (int r = 0; r < n; r++) y[r] = silu16(y[r]) * up[r];
}

// Sixteen outputs of `n` rows to their place.
INLINE void put(const Product *p, size_t column, int width, int first, int n, const Floats *y) {
#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        float *to = p->out + (size_t)(first + r) * p->stride + column;
        float lanes[PANEL];
        if (width == PANEL) {
            Floats whole = y[r];
            if (p->then == ADD) whole += load(to);
            store(to, whole);
            continue;
        }
        store(lanes, y[r]);
        for (int i = 0; i < width; i++) to[i] = p->then == ADD ? to[i] + lanes[i] : lanes[i];
    }
}

// One panel of a product: its matrix, its place there, and its first column in the output.
typedef struct {
    const Matrix *matrix;
    int panel, width;
    size_t column;
} Panel;

enum { LOW_BLOCK = 8, LOW_ROWS = 4 };

// Eight sums of A x, times `share`, from row `rank` of A on.
static void low_block(const Pair *pair, int rank, const float *x, int width, float share, float *out) {
    int n = pair->rank - rank < LOW_BLOCK ? pair->rank - rank : LOW_BLOCK, whole = width / 16 * 16;
    const uint16_t *a = pair->a + (size_t)rank * (size_t)width;
    Floats sums[LOW_BLOCK];
    for (int k = 0; k < LOW_BLOCK; k++) sums[k] = splat(0);
    for (int i = 0; i < whole; i += 16) {
        Floats part = load(x + i);
        if (n == LOW_BLOCK)
#pragma GCC unroll 8
            for (int k = 0; k < LOW_BLOCK; k++) sums[k] = fma16(part, brain_floats(a + (size_t)k * (size_t)width + i), sums[k]);
        else
            for (int k = 0; k < n; k++) sums[k] = fma16(part, brain_floats(a + (size_t)k * (size_t)width + i), sums[k]);
    }
    for (int k = 0; k < n; k++) {
        float total = sum(sums[k]);
        for (int i = whole; i < width; i++) total += x[i] * from_brain_float(a[(size_t)k * (size_t)width + (size_t)i]);
        out[rank + k] = total * share;
    }
}

// Sixteen outputs of B, for `n` rows that share an adapter: even and odd ranks apart, so that no sum waits for the last.
INLINE void high_block(const Pair *pair, const uint16_t *b, int n, const float *const *values, Floats *y) {
    Floats even[LOW_ROWS], odd[LOW_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) even[r] = odd[r] = splat(0);
    int k = 0;
    for (; k + 2 <= pair->rank; k += 2, b += 2 * PANEL) {
        Floats first = brain_floats(b), second = brain_floats(b + PANEL);
#pragma GCC unroll 4
        for (int r = 0; r < n; r++) {
            even[r] = fma16(splat(values[r][k]), first, even[r]);
            odd[r] = fma16(splat(values[r][k + 1]), second, odd[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
        if (k < pair->rank) even[r] = fma16(splat(values[r][k]), brain_floats(b), even[r]);
        y[r] += even[r] + odd[r];
    }
}

// Adds what the adapters of n rows have to say to a panel's outputs.
static void add_lows(const Product *p, const Panel *panel, int first, int n, Floats *y) {
    const Lows *lows = p->lows;
    size_t which = (size_t)(panel->matrix - p->matrices), wide = (size_t)lows->count * (size_t)lows->most_rank;
    for (int r = 0, alike; r < n; r += alike) {
        const Pair *adapter = lows->adapters[first + r];
        for (alike = 1; alike < LOW_ROWS && r + alike < n && lows->adapters[first + r + alike] == adapter;) alike++;
        if (!adapter) continue;
        const Pair *pair = adapter + lows->first + which;
        const uint16_t *b = pair->b + (size_t)panel->panel * (size_t)pair->rank * PANEL;
        const float *values[LOW_ROWS];
        for (int i = 0; i < alike; i++)
            values[i] = lows->values + (size_t)(first + r + i) * wide + which * (size_t)lows->most_rank;
        if (alike == LOW_ROWS) high_block(pair, b, LOW_ROWS, values, y + r);
        else for (int i = 0; i < alike; i++) high_block(pair, b, 1, values + i, y + r + i);
    }
}

static Panel panel_at(const Product *p, int panel) {
    Panel found = {p->matrices, panel, PANEL, 0};
    for (; found.panel >= panels_of(found.matrix); found.matrix++) {
        found.panel -= panels_of(found.matrix), found.column += (size_t)found.matrix->outputs;
    }
    int left = found.matrix->outputs - found.panel * PANEL;
    if (left < PANEL) found.width = left;
    found.column += (size_t)found.panel * PANEL;
    return found;
}

static void panel_of_rows(const Product *p, const Panel *panel, int first, int last) {
    for (int n; first < last; first += n) {
        Floats y[ROW_BLOCK], up[ROW_BLOCK];
        n = block_size(p->rows->rows - first);
        outputs_of(panel->matrix, panel->panel, p->rows, first, n, y);
        if (p->lows) add_lows(p, panel, first, n, y);
        if (p->then == GATE) {
            Panel second = *panel;
            second.matrix++;
            outputs_of(second.matrix, second.panel, p->rows, first, n, up);
            if (p->lows) add_lows(p, &second, first, n, up);
            gate(y, up, n);
        }
        put(p, panel->column, panel->width, first, n, y);
    }
}

#if defined(WIDE_PRODUCTS)
#include "pairs.h"
#else
enum { PAIRED_ROWS = 1 << 30 };
static size_t pair_bytes(int rows, size_t groups) { (void)rows, (void)groups; return 0; }
static void pair_of_rows(const Product *p, const Panel *a, const Panel *b, int first, int last, char *scratch) {
    (void)scratch;
    panel_of_rows(p, a, first, last);
    if (p->then != GATE) panel_of_rows(p, b, first, last);
}
#endif

// Runs on every thread of a team. `scratch` holds `pair_bytes`.
static void multiply(Member *me, const Product *p, char *scratch) {
    int panels = 0, count = p->then == GATE ? 1 : p->count, rows = p->rows->rows;
    for (int i = 0; i < count; i++) panels += panels_of(p->matrices + i);
    int shares = panels / (8 * me->threads), most = rows < PAIRED_ROWS ? 16 : 8;
    int chunk = shares < 1 ? 1 : shares > most ? most : shares;
    if (rows >= PAIRED_ROWS && p->then != GATE) chunk += chunk & 1;
    int chunks = (panels + chunk - 1) / chunk, parts = (rows + ROWS_IN_CACHE - 1) / ROWS_IN_CACHE;
    for (int task; (task = take(me, chunks * parts)) >= 0;) {
        int first = task / chunks * ROWS_IN_CACHE;
        int last = first + ROWS_IN_CACHE < rows ? first + ROWS_IN_CACHE : rows;
        int end = (task % chunks + 1) * chunk < panels ? (task % chunks + 1) * chunk : panels;
        for (int at = task % chunks * chunk; at < end; at++) {
            Panel a = panel_at(p, at), b = a;
            if (p->then == GATE) b.matrix++;
            else if (at + 1 < end) b = panel_at(p, at + 1);
            int alone = (p->then != GATE && at + 1 == end) || a.matrix->kind != b.matrix->kind;
            if (rows < PAIRED_ROWS || alone) panel_of_rows(p, &a, first, last);
            else {
                pair_of_rows(p, &a, &b, first, last, scratch);
                at += p->then != GATE;
            }
        }
    }
}

typedef struct {
    const Matrix *matrix;
    Source source;
    Rows rows;
    float *out;
    char *panels;
    size_t panel_room;  // of one thread
} Linear;

static void linear_region(Member *me, void *argument) {
    const Linear *l = argument;
    for (int t, tasks = quantizing_tasks(&l->rows); (t = take(me, tasks)) >= 0;) quantize_task(&l->rows, t, &l->source);
    Product product = {l->matrix, 1, KEEP, &l->rows, l->out, (size_t)l->matrix->outputs, NULL};
    multiply(me, &product, l->panels + l->panel_room * (size_t)me->thread);
}

INLINE size_t padded(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

// x [rows, inputs] float32 -> out [rows, outputs] float32. Not zero where memory ran out.
EXPORT int kun_linear(const Matrix *matrix, const float *x, int rows, float *out) {
    size_t bytes = padded(rows_bytes((size_t)rows, (size_t)matrix->groups));
    size_t panels = padded(pair_bytes(rows, (size_t)matrix->groups));
    char *memory = borrow(bytes + panels * MAX_THREADS);
    if (!memory) return 1;
    Source source = {x, matrix->inputs, NULL, 0};
    Linear linear = {matrix, source, rows_in(memory, rows, matrix->groups), out, memory + bytes, panels};
    run(linear_region, &linear);
    give_back(memory);
    return 0;
}

// One row of the weights themselves, which is how an embedding reads them.
static void read_row(const Matrix *m, int row, float *out) {
    int lane = row % PANEL;
    for (int g = 0; g < m->groups; g++) {
        size_t block = (size_t)(row / PANEL) * m->groups + g;
        const uint8_t *codes = m->codes + block * code_bytes(m->kind) + 4 * lane;
        const uint16_t *scales = m->scales + block * scale_count(m->kind) + lane;
        float scale = half_to_float(scales[0]), low = is_shifted(m->kind) ? half_to_float(scales[PANEL]) : 0;
        int offset = m->kind == INT8 ? 128 : m->kind == INT4_SYMMETRIC ? 8 : 0;
        for (int i = 0; i < GROUP && g * GROUP + i < m->inputs; i++) {
            int step = i / 4, code;
            if (m->kind == INT8) code = codes[64 * step + i % 4];
            else code = codes[64 * (step % 4) + i % 4] >> (step / 4 * 4) & 15;
            out[g * GROUP + i] = (float)(code - offset) * scale + low;
        }
    }
}

// Rows `ids` [count] of the weights -> out [count, inputs].
EXPORT void kun_rows(const Matrix *matrix, const int64_t *ids, int count, float *out) {
    for (int i = 0; i < count; i++) read_row(matrix, (int)ids[i], out + (size_t)i * matrix->inputs);
}
