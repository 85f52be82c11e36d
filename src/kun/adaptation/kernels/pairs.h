// Products of many rows, with 32 outputs at once: two panels, unpacked once, stay near while the rows go by. An output
// gets the same sums in the same order as from `tile`, so that it is the same bits.
#pragma once
#include "dot.h"

enum { PAIRED_ROWS = 24, PAIR_ROWS = 6 };

// One group of two panels: a byte for each weight, and scales and minima.
typedef struct {
    uint8_t codes[8][2][64];
    float scales[2][PANEL], minima[2][PANEL];
} PairGroup;

static size_t pair_bytes(int rows, size_t groups) { return rows < PAIRED_ROWS ? 0 : groups * sizeof(PairGroup); }

static void unpack_panel(const Panel *panel, int side, PairGroup *to) {
    const Matrix *m = panel->matrix;
    size_t block = (size_t)panel->panel * m->groups;
    const uint8_t *codes = m->codes + block * code_bytes(m->kind);
    const uint16_t *scales = m->scales + block * scale_count(m->kind);
    for (int g = 0; g < m->groups; g++, to++) {
        Codes c = unpack(m->kind, codes);
        for (int i = 0; i < 8; i++) _mm512_store_si512(to->codes[i][side], c.step[i]);
        store(to->scales[side], halves(scales));
        store(to->minima[side], is_shifted(m->kind) ? halves(scales + PANEL) : splat(0));
        codes += code_bytes(m->kind), scales += scale_count(m->kind);
    }
}

// Weights that come next, one group of them at a time: they are on their way from memory while this pair is at work.
typedef struct {
    const char *codes, *scales;
    int code_lines, scale_lines;
} Ahead;

INLINE void fetch(Ahead *ahead) {
    for (int i = 0; i < ahead->code_lines; i++) __builtin_prefetch(ahead->codes + 64 * i, 0, 2);
    for (int i = 0; i < ahead->scale_lines; i++) __builtin_prefetch(ahead->scales + 64 * i, 0, 2);
    ahead->codes += 64 * ahead->code_lines, ahead->scales += 64 * ahead->scale_lines;
}

// `n` rows, of a block of `stride` rows, from the place `at` on.
INLINE void pair_tile(
    int kind, int n, const PairGroup *pair, const Rows *rows, size_t at, int stride, Ahead *ahead, Floats out[2][PAIR_ROWS]
) {
    const int8_t *x = rows->bytes + at * GROUP;
    const float *scale = rows->scale + at, *shift = rows->shift + at;
    const int32_t *start = rows->start + at;
    Floats total[2][PAIR_ROWS];
#pragma GCC unroll 6
    for (int r = 0; r < n; r++) total[0][r] = total[1][r] = splat(0);
    for (int g = 0; g < rows->groups; g++, pair++) {
        fetch(ahead), fetch(ahead + 1);
        __m512i sums[2][PAIR_ROWS];
#pragma GCC unroll 6
        for (int r = 0; r < n; r++) {
            int32_t first = kind == INT4 ? 0 : kind == INT8 ? 16 * start[r] : start[r];
            sums[0][r] = sums[1][r] = _mm512_set1_epi32(first);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            __m512i a = _mm512_load_si512(pair->codes[i][0]), b = _mm512_load_si512(pair->codes[i][1]);
#pragma GCC unroll 6
            for (int r = 0; r < n; r++) {
                int32_t four;
                memcpy(&four, x + r * GROUP + 4 * i, 4);
                __m512i same = _mm512_set1_epi32(four);
                sums[0][r] = _mm512_dpbusd_epi32(sums[0][r], a, same);
                sums[1][r] = _mm512_dpbusd_epi32(sums[1][r], b, same);
            }
        }
#pragma GCC unroll 2
        for (int side = 0; side < 2; side++) {
            Floats s = load(pair->scales[side]), low = load(pair->minima[side]);
#pragma GCC unroll 6
            for (int r = 0; r < n; r++) {
                Floats product = __builtin_convertvector((Ints)sums[side][r], Floats);
                total[side][r] = fma16(product, s * splat(scale[r]), total[side][r]);
                if (is_shifted(kind)) total[side][r] = fma16(low, splat(shift[r]), total[side][r]);
            }
        }
        x += stride * GROUP, scale += stride, shift += stride, start += stride;
    }
#pragma GCC unroll 6
    for (int r = 0; r < n; r++) out[0][r] = total[0][r], out[1][r] = total[1][r];
}

#define PAIR_TILES(kind)                                                             \
    switch (n) {                                                                     \
        case 1: pair_tile(kind, 1, pair, rows, at, stride, ahead, out); break;              \
        case 2: pair_tile(kind, 2, pair, rows, at, stride, ahead, out); break;              \
        case 4: pair_tile(kind, 4, pair, rows, at, stride, ahead, out); break;              \
        case 5: pair_tile(kind, 5, pair, rows, at, stride, ahead, out); break;       \
        default: pair_tile(kind, PAIR_ROWS, pair, rows, at, stride, ahead, out);            \
    }

static __attribute__((noinline)) void pair_tile_of(
    int kind, int n, const PairGroup *pair, const Rows *rows, size_t at, int stride, Ahead *ahead, Floats out[2][PAIR_ROWS]
) {
    if (kind == INT4) PAIR_TILES(INT4)
    else if (kind == INT8) PAIR_TILES(INT8)
    else PAIR_TILES(INT4_SYMMETRIC)
}

INLINE void add_bias(const Panel *panel, int n, Floats *y) {
    if (!panel->matrix->bias) return;
    Floats bias = splat(0);
    for (int i = 0; i < panel->width; i++) bias[i] = panel->matrix->bias[panel->panel * PANEL + i];
    for (int r = 0; r < n; r++) y[r] += bias;
}

// The panel that lies `panels` after this one; none where the matrix ends.
static Ahead ahead_of(const Panel *panel, int panels) {
    const Matrix *m = panel->matrix;
    if (panel->panel + panels >= panels_of(m)) return (Ahead){0};
    size_t block = (size_t)(panel->panel + panels) * m->groups;
    const char *codes = (const char *)(m->codes + block * code_bytes(m->kind));
    const char *scales = (const char *)(m->scales + block * scale_count(m->kind));
    return (Ahead){codes, scales, code_bytes(m->kind) / 64, is_shifted(m->kind) ? 1 : 0};
}

// Rows first … last of the panels a and b, of one kind. For a gate, b is that of the second matrix.
static void pair_of_rows(const Product *p, const Panel *a, const Panel *b, int first, int last, char *scratch) {
    PairGroup *pair = (PairGroup *)scratch;
    unpack_panel(a, 0, pair), unpack_panel(b, 1, pair);
    int next = p->then == GATE ? 1 : 2;
    Ahead ahead[2] = {ahead_of(a, next), ahead_of(b, next)};
    while (first < last) {
        int stride = block_size(p->rows->rows - first);
        for (int row = 0, step; row < stride; row += step) {
            step = stride == ROW_BLOCK ? (row ? 5 : PAIR_ROWS) : stride < 4 ? stride : 4;
            Floats y[2][PAIR_ROWS];
            size_t at = (size_t)first * p->rows->groups + (size_t)row;
            pair_tile_of(a->matrix->kind, step, pair, p->rows, at, stride, ahead, y);
            ahead[0] = ahead[1] = (Ahead){0};
            add_bias(a, step, y[0]), add_bias(b, step, y[1]);
            if (p->lows) add_lows(p, a, first + row, step, y[0]), add_lows(p, b, first + row, step, y[1]);
            if (p->then == GATE) gate(y[0], y[1], step);
            put(p, a->column, a->width, first + row, step, y[0]);
            if (p->then != GATE) put(p, b->column, b->width, first + row, step, y[1]);
        }
        first += stride;
    }
}
