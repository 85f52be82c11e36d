// Products of many rows, with 32 outputs at once: two panels, unpacked once, stay near while the rows go by. An output
// gets the same sums in the same order as from `tile`, so that it is the same bits.
#pragma once
#include "dot.h"

enum { PAIRED_ROWS = 8, PAIR_ROWS = 6 };

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
        store(to->minima[side], m->kind == INT4 ? halves(scales + PANEL) : splat(0));
        codes += code_bytes(m->kind), scales += scale_count(m->kind);
    }
}

// `n` rows at `x` and so on, of a block of `stride` rows. `times` is what `start` counts for.
INLINE void pair_tile(int kind, int n, const PairGroup *pair, const Rows *rows, size_t at, int stride, Floats out[2][PAIR_ROWS]) {
    const int8_t *x = rows->bytes + at * GROUP;
    const float *scale = rows->scale + at, *shift = rows->shift + at;
    const int32_t *start = rows->start + at;
    Floats total[2][PAIR_ROWS];
#pragma GCC unroll 6
    for (int r = 0; r < n; r++) total[0][r] = total[1][r] = splat(0);
    for (int g = 0; g < rows->groups; g++, pair++) {
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
                if (kind == INT4) total[side][r] = fma16(low, splat(shift[r]), total[side][r]);
            }
        }
        x += stride * GROUP, scale += stride, shift += stride, start += stride;
    }
#pragma GCC unroll 6
    for (int r = 0; r < n; r++) out[0][r] = total[0][r], out[1][r] = total[1][r];
}

#define PAIR_TILES(kind)                                                             \
    switch (n) {                                                                     \
        case 1: pair_tile(kind, 1, pair, rows, at, stride, out); break;              \
        case 2: pair_tile(kind, 2, pair, rows, at, stride, out); break;              \
        case 4: pair_tile(kind, 4, pair, rows, at, stride, out); break;              \
        default: pair_tile(kind, PAIR_ROWS, pair, rows, at, stride, out);            \
    }

static __attribute__((noinline)) void pair_tile_of(
    int kind, int n, const PairGroup *pair, const Rows *rows, size_t at, int stride, Floats out[2][PAIR_ROWS]
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

// Rows first … last of the panels a and b, of one kind. For a gate, b is that of the second matrix.
static void pair_of_rows(const Product *p, const Panel *a, const Panel *b, int first, int last, char *scratch) {
    PairGroup *pair = (PairGroup *)scratch;
    unpack_panel(a, 0, pair), unpack_panel(b, 1, pair);
    while (first < last) {
        int stride = block_size(p->rows->rows - first), step = stride == ROW_BLOCK ? PAIR_ROWS : stride == 8 ? 4 : stride;
        for (int row = 0; row < stride; row += step) {
            Floats y[2][PAIR_ROWS];
            size_t at = (size_t)first * p->rows->groups + (size_t)row;
            pair_tile_of(a->matrix->kind, step, pair, p->rows, at, stride, y);
            add_bias(a, step, y[0]), add_bias(b, step, y[1]);
            if (p->then == GATE)
                for (int r = 0; r < step; r++) y[0][r] = silu16(y[0][r]) * y[1][r];
            put(p, a->column, a->width, first + row, step, y[0]);
            if (p->then != GATE) put(p, b->column, b->width, first + row, step, y[1]);
        }
        first += stride;
    }
}
