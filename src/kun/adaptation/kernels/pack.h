// Quantizing: float weights to the codes and scales that `dot.h` reads. The same arithmetic as adaptation/packing.py.
#pragma once
#include "linear.h"

typedef struct { Floats low, high; } Group;  // 32 neighbours
typedef struct { Group codes; float scale, minimum, error; } Fit;

INLINE float float_to_half_and_back(float x, uint16_t *half) {
    x = x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest < 0x38800000) {  // below the least normal: steps of 2^-24, rounded to even by adding
        float magnitude, shifted;
        memcpy(&magnitude, &rest, 4);
        shifted = magnitude * 0x1p24f + 0x1p23f;
        memcpy(&rest, &shifted, 4);
        *half = (uint16_t)(sign | (rest & 0x7ff));
    } else *half = (uint16_t)(sign | ((rest + 0xfff + (rest >> 13 & 1) - 0x38000000) >> 13));
    return half_to_float(*half);
}

INLINE Floats nearest(Floats x) { return (x + splat(12582912.0f)) - splat(12582912.0f); }

// `weight` says how much an error at each place matters.
INLINE Fit fit(Group w, Group weight, float scale, float minimum) {
    Fit f = {.scale = scale, .minimum = minimum};
    Floats inverse = splat(scale == 0 ? 1.0f : 1.0f / scale), base = splat(minimum);
    f.codes.low = clamp16(nearest((w.low - base) * inverse), 0, 15);
    f.codes.high = clamp16(nearest((w.high - base) * inverse), 0, 15);
    Floats a = fma16(f.codes.low, splat(scale), base) - w.low, b = fma16(f.codes.high, splat(scale), base) - w.high;
    f.error = sum(a * a * weight.low + b * b * weight.high);
    return f;
}

// The scale and minimum that bring codes nearest to the weights: a line through 32 points.
INLINE void refit(Group w, Group weight, const Fit *f, float *scale, float *minimum) {
    float mass = sum(weight.low + weight.high);
    float code_mean = sum(f->codes.low * weight.low + f->codes.high * weight.high) / mass;
    float mean = sum(w.low * weight.low + w.high * weight.high) / mass;
    Floats a = f->codes.low - splat(code_mean), b = f->codes.high - splat(code_mean);
    Floats c = a * weight.low, d = b * weight.high;
    float spread = sum(c * a + d * b);
    *scale = sum(c * w.low + d * w.high) / (spread > 1e-20f ? spread : 1e-20f);
    *minimum = mean - *scale * code_mean;
}

// Of weights that are even steps apart the span is a whole number of them: 15, or fewer where codes went unused
// (7 steps are also 14, and so on).
enum { MOST_STEPS = 15, LEAST_STEPS = 8 };

// An error of a hundredth of a step is that of scale and minimum in 16 bits: the weights were in 4 bits before, as those
// of most files are, and no search finds more. Rounding other weights errs by a quarter of a step.
INLINE int is_exact(const Fit *f, float mass) { return f->error <= 1e-4f * f->scale * f->scale * mass; }

static Fit four_bits(Group w, Group weight, uint16_t *scale_half, uint16_t *minimum_half) {
    const float shrinks[] = {1.0f, 0.97f, 0.94f, 0.91f, 0.88f, 0.85f, 0.82f, 0.78f};
    Floats top = choose(w.low > w.high, w.low, w.high), bottom = choose(w.low < w.high, w.low, w.high);
    float high = largest(top), low = -largest(-bottom);
    uint16_t s, m;
    float scale = float_to_half_and_back((high - low) / MOST_STEPS, scale_half);
    float minimum = float_to_half_and_back(low, minimum_half);
    float mass = sum(weight.low + weight.high);
    Fit best = fit(w, weight, scale, minimum);
    for (int steps = MOST_STEPS - 1; steps >= LEAST_STEPS && best.error > 0; steps--) {
        scale = float_to_half_and_back((high - low) / (float)steps, &s);
        Fit trial = fit(w, weight, scale, minimum);
        if (trial.error < best.error) best = trial, *scale_half = s;
    }
    for (int i = 0; i < 8 && !is_exact(&best, mass); i++) {
        float span = (high - low) * shrinks[i];
        Fit trial = fit(w, weight, span / 15, (high + low - span) / 2);
        for (int round = 0; round < 2; round++) {
            refit(w, weight, &trial, &scale, &minimum);
            scale = float_to_half_and_back(scale, &s), minimum = float_to_half_and_back(minimum, &m);
            trial = fit(w, weight, scale, minimum);
            if (trial.error < best.error) best = trial, *scale_half = s, *minimum_half = m;
        }
    }
    return best;
}

INLINE Fit fit_eight(Group w, float scale, float middle) {
    Fit f = {.scale = scale, .minimum = middle};
    Floats inverse = splat(scale == 0 ? 1.0f : 1.0f / scale), base = splat(middle);
    f.codes.low = clamp16(nearest((w.low - base) * inverse), -127, 127);
    f.codes.high = clamp16(nearest((w.high - base) * inverse), -127, 127);
    Floats a = fma16(f.codes.low, splat(scale), base) - w.low, b = fma16(f.codes.high, splat(scale), base) - w.high;
    f.error = sum(a * a + b * b);
    f.codes.low += splat(128), f.codes.high += splat(128);
    return f;
}

// Even steps around zero, or around the middle of the weights: 254 of them, or 240, which is 15 times 16, so that weights
// that were in 4 bits before come back as they were.
static Fit eight_bits(Group w, uint16_t *scale_half, uint16_t *middle_half) {
    float high = largest(choose(w.low > w.high, w.low, w.high)), low = -largest(-choose(w.low < w.high, w.low, w.high));
    float top = high > -low ? high : -low;
    const float scales[] = {top / 127, (high - low) / 254, (high - low) / 240}, middles[] = {0, (high + low) / 2, (high + low) / 2};
    uint16_t s, m;
    Fit best = fit_eight(w, float_to_half_and_back(scales[0], scale_half), float_to_half_and_back(0, middle_half));
    for (int i = 1; i < 3 && best.error > 0; i++) {
        float scale = float_to_half_and_back(scales[i], &s), middle = float_to_half_and_back(middles[i], &m);
        Fit trial = fit_eight(w, scale, middle);
        if (trial.error < best.error) best = trial, *scale_half = s, *middle_half = m;
    }
    return best;
}

typedef struct {
    const float *weight;      // [outputs, inputs]
    const float *importance;  // [inputs], above zero: mean squares of what is multiplied; or NULL: all alike
    uint8_t *codes;
    uint16_t *scales;
    int outputs, inputs, kind, groups;
} Packing;

static void pack_group(const Packing *p, int row, int g) {
    float values[GROUP] = {0}, codes[GROUP];
    int count = p->inputs - g * GROUP < GROUP ? p->inputs - g * GROUP : GROUP, lane = row % PANEL;
    if (row < p->outputs) memcpy(values, p->weight + (size_t)row * p->inputs + g * GROUP, sizeof(float) * (size_t)count);
    size_t block = (size_t)(row / PANEL) * p->groups + g;
    uint8_t *to = p->codes + block * code_bytes(p->kind) + 4 * lane;
    uint16_t *scales = p->scales + block * scale_count(p->kind) + lane;
    Group w = {load(values), load(values + 16)};
    Group importance = {splat(1), splat(1)};
    if (p->importance && count == GROUP) {
        importance = (Group){load(p->importance + g * GROUP), load(p->importance + g * GROUP + 16)};
    }
    Fit f = p->kind == INT8 ? eight_bits(w, scales, scales + PANEL) : four_bits(w, importance, scales, scales + PANEL);
    store(codes, f.codes.low), store(codes + 16, f.codes.high);
    for (int i = 0; i < GROUP; i++) {
        int step = i / 4, code = (int)codes[i];
        if (p->kind == INT8) to[64 * step + i % 4] = (uint8_t)code;
        else if (step < 4) to[64 * step + i % 4] = (uint8_t)code;
        else to[64 * (step - 4) + i % 4] |= (uint8_t)(code << 4);
    }
}

static void pack_region(Member *me, void *argument) {
    const Packing *p = argument;
    int panels = (p->outputs + PANEL - 1) / PANEL;
    for (int panel; (panel = take(me, panels)) >= 0;)
        for (int g = 0; g < p->groups; g++)
            for (int lane = 0; lane < PANEL; lane++) pack_group(p, panel * PANEL + lane, g);
}

// weight [outputs, inputs] float32 -> codes and scales as in `Matrix`.
EXPORT void kun_pack(
    const float *weight, const float *importance, int outputs, int inputs, int kind, uint8_t *codes, uint16_t *scales
) {
    Packing packing = {weight, importance, codes, scales, outputs, inputs, kind, (inputs + GROUP - 1) / GROUP};
    run(pack_region, &packing);
}
