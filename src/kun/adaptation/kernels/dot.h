// Weights in groups of 32 inputs for a panel of 16 outputs, and their products with one row's 8-bit activations.
//
// A group's codes are eight steps of 16 outputs × 4 inputs, one byte each: what one vpdpbusd takes.
// In 4 bits, step j lies in the low and step j + 4 in the high halves of the j-th 64 bytes.
#pragma once
#include "vectors.h"

// code · scale + minimum; (code - 8) · scale; (code - 128) · scale + middle
enum Kind { INT4 = 0, INT4_SYMMETRIC = 1, INT8 = 2 };
enum { GROUP = 32, PANEL = 16 };

INLINE int code_bytes(int kind) { return kind == INT8 ? 512 : 256; }
INLINE int is_shifted(int kind) { return kind != INT4_SYMMETRIC; }  // by a minimum or a middle, kept after the scales
INLINE int scale_count(int kind) { return is_shifted(kind) ? 2 * PANEL : PANEL; }

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define INSTRUCTIONS "AVX-512 VNNI"
#define WIDE_PRODUCTS
typedef struct { __m512i step[8]; } Codes;

INLINE Codes unpack(int kind, const uint8_t *p) {
    Codes c;
    if (kind == INT8) {
        for (int i = 0; i < 8; i++) c.step[i] = _mm512_loadu_si512(p + 64 * i);
        return c;
    }
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; i++) {
        __m512i both = _mm512_loadu_si512(p + 64 * i);
        c.step[i] = _mm512_and_si512(both, low);
        c.step[i + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
    return c;
}

INLINE Ints dot(int kind, const Codes *c, const int8_t *x, int32_t start) {
    __m512i total = _mm512_setzero_si512();
    if (kind == INT4_SYMMETRIC) total = _mm512_set1_epi32(start);
    if (kind == INT8) total = _mm512_slli_epi32(_mm512_set1_epi32(start), 4);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        int32_t four;
        memcpy(&four, x + 4 * i, 4);
        total = _mm512_dpbusd_epi32(total, c->step[i], _mm512_set1_epi32(four));
    }
    return (Ints)total;
}
#elif defined(__AVX2__)
#define INSTRUCTIONS "AVX2"
typedef struct { __m256i step[16]; } Codes;

INLINE Codes unpack(int kind, const uint8_t *p) {
    Codes c;
    if (kind == INT8) {
        const __m256i sign = _mm256_set1_epi8(-128);
        for (int i = 0; i < 16; i++)
            c.step[i] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(p + 32 * i)), sign);
        return c;
    }
    const __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < 8; i++) {
        __m256i both = _mm256_loadu_si256((const __m256i *)(p + 32 * i));
        c.step[i] = _mm256_and_si256(both, low);
        c.step[i + 8] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
    return c;
}

// Pairs of products are summed in 16 bits: |x| · |w| stays below 2 · 127 · 127, so nothing saturates.
INLINE __m256i products(int kind, __m256i codes, __m256i x) {
    __m256i pairs = kind == INT8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(codes, x))
                                 : _mm256_maddubs_epi16(codes, x);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE Ints dot(int kind, const Codes *c, const int8_t *x, int32_t start) {
    union { __m256i half[2]; Ints all; } total;
    total.half[0] = total.half[1] = _mm256_set1_epi32(kind == INT4_SYMMETRIC ? start : 0);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        int32_t four;
        memcpy(&four, x + 4 * i, 4);
        __m256i same = _mm256_set1_epi32(four);
        total.half[0] = _mm256_add_epi32(total.half[0], products(kind, c->step[2 * i], same));
        total.half[1] = _mm256_add_epi32(total.half[1], products(kind, c->step[2 * i + 1], same));
    }
    return total.all;
}
#else
#define INSTRUCTIONS "plain C"
typedef struct { int8_t step[8][64]; } Codes;

INLINE Codes unpack(int kind, const uint8_t *p) {
    Codes c;
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 64; j++)
            c.step[i][j] = (int8_t)(kind == INT8 ? p[64 * i + j] - 128 : p[64 * (i & 3) + j] >> (i & 4) & 15);
    return c;
}

INLINE Ints dot(int kind, const Codes *c, const int8_t *x, int32_t start) {
    int32_t total[PANEL];
    for (int j = 0; j < PANEL; j++) total[j] = kind == INT4_SYMMETRIC ? start : 0;
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < PANEL; j++)
            for (int b = 0; b < 4; b++) total[j] += c->step[i][4 * j + b] * x[4 * i + b];
    Ints all;
    memcpy(&all, total, sizeof all);
    return all;
}
#endif
