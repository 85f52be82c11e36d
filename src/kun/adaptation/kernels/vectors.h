// Sixteen numbers at a time, in GCC's vector types: the compiler maps them to whatever registers there are.
// Nothing here depends on how many rows or threads run, so a token's numbers are the same bits in any batch.
#pragma once
#include <math.h>
#include "pool.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

typedef float Floats __attribute__((vector_size(64), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), may_alias));
typedef float LooseFloats __attribute__((vector_size(64), aligned(4), may_alias));

INLINE Floats splat(float x) { return x - (Floats){0}; }
INLINE Floats load(const float *p) { return *(const LooseFloats *)p; }
INLINE void store(float *p, Floats x) { *(LooseFloats *)p = x; }
INLINE Floats choose(Ints mask, Floats a, Floats b) { return (Floats)(((Ints)a & mask) | ((Ints)b & ~mask)); }

// a · b + c
INLINE Floats fma16(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return a * b + c;
#endif
}

// Lanes are added in halves, whatever the processor.
INLINE float sum(Floats x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#endif
    float lanes[16];
    store(lanes, x);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

INLINE float largest(Floats x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)x);
#endif
    float lanes[16];
    store(lanes, x);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
    return lanes[0];
}

// x, or the bound that it is beyond; NaN stays NaN.
INLINE Floats clamp16(Floats x, float low, float high) {
#if defined(__AVX512F__)
    return (Floats)_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), (__m512)x));
#else
    x = choose(x < splat(low), splat(low), x);
    return choose(x > splat(high), splat(high), x);
#endif
}

// e to the x within 2 units in the last place, between the least and the greatest normal float.
INLINE Floats exp16(Floats x) {
    x = clamp16(x, -87.0f, 88.0f);
    Floats n = fma16(x, splat(1.44269504f), splat(12582912.0f)) - splat(12582912.0f);
    Floats r = fma16(n, splat(-0.693359375f), x);
    r = fma16(n, splat(2.12194440e-4f), r);
    Floats p = splat(1.9875691500e-4f);
    p = fma16(p, r, splat(1.3981999507e-3f));
    p = fma16(p, r, splat(8.3334519073e-3f));
    p = fma16(p, r, splat(4.1665795894e-2f));
    p = fma16(p, r, splat(1.6666665459e-1f));
    p = fma16(p, r, splat(5.0000001201e-1f));
    p = fma16(p, r * r, r + splat(1.0f));
    Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    return p * (Floats)power;
}

INLINE Floats silu16(Floats x) { return x / (splat(1.0f) + exp16(-x)); }

INLINE float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    float magnitude;
    if (exponent == 0) magnitude = (float)fraction * 0x1p-24f;
    else {
        uint32_t bits = exponent == 31 ? 0x7f800000u | fraction << 13 : (exponent + 112) << 23 | fraction << 13;
        memcpy(&magnitude, &bits, 4);
    }
    return sign ? -magnitude : magnitude;
}

INLINE Floats halves(const uint16_t *p) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
    Floats x;
    for (int i = 0; i < 16; i++) x[i] = half_to_float(p[i]);
    return x;
#endif
}

// The upper halves of float32.
INLINE Floats brain_floats(const uint16_t *p) {
    typedef uint16_t Shorts __attribute__((vector_size(32)));
    Shorts x;
    memcpy(&x, p, 32);
    return (Floats)(__builtin_convertvector(x, Ints) << 16);
}

INLINE float from_brain_float(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

INLINE uint16_t to_brain_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
