// A step of any network in float32 that was noted as a list of operations, for a few tokens over a paged cache.
// A token's numbers are the same bits whatever other tokens are in the step.
#pragma once
#include "attention.h"

enum Operation { NORM, RMS_NORM, LINEAR, ROTATE, ATTEND, CROSS, SUM, PRODUCT, SCALE, ACTIVATE };
enum Activation { NONE, RELU, GELU, GELU_TANH, SILU };
enum { OUTPUTS = 8, MOST_TOGETHER = 8, MOST_MIXED = 4096 };

// One operation; `from`, `other`, `third` and `to` are numbers of buffers, -1 where there is none.
typedef struct {
    int32_t kind, activation, from, other, third, to;
    int32_t width, outputs;        // of a token's vector that is read, and of a linear layer's result
    int32_t heads, kv_heads, d;    // d: width of a head, or of what a norm is taken over
    int32_t first, turned;         // the part of each head that is rotated
    int32_t layer, window, bias;   // of the cache or of the sources; bias -1 where there is none
    int32_t alike;                 // operations from this one on that read the same and run together
    float number;                  // epsilon, scale or factor
    const float *weight, *shift;   // [outputs, width] or [d]; shift NULL where there is none
} Op;

// Keys and values of the sources of a step: [rows, heads, longest, d] for each layer.
typedef struct { float *keys, *values; } SourceLayer;

typedef struct {
    const Op *ops;
    float *const *buffers;        // [total, width] each
    const int32_t *tables;        // [total, max_pages]: the pages of each token's row
    const int32_t *seen;          // [total]: keys that a token sees, from the row's first on
    const int32_t *places;        // [total]: its own place in the row
    const int64_t *slots;         // [total]: page · page_size + offset
    float *keys, *values;         // [n_layers, pages, kv_heads, page_size, d]
    uint64_t layer_floats;
    const float *const *biases;   // [heads, bias_length]: by distance, the own place last
    const SourceLayer *sources;         // by layer
    const int32_t *source_of, *source_seen;  // [total]
    int32_t count, total, max_pages, page_size, bias_length, longest_source;
} Program;

INLINE Floats tanh16(Floats x) { return splat(1) - splat(2) / (exp16(x + x) + splat(1)); }

INLINE Floats activated(int activation, Floats x) {
    switch (activation) {
        case RELU: return choose(x > splat(0), x, splat(0));
        case SILU: return silu16(x);
        case GELU_TANH: return x * splat(0.5f) * (splat(1) + tanh16(splat(0.7978845608f) * (x + splat(0.044715f) * x * x * x)));
        case GELU: {
            float lanes[16];
            store(lanes, x);
            for (int i = 0; i < 16; i++) lanes[i] *= 0.5f * (1 + erff(lanes[i] * 0.70710678f));
            return load(lanes);
        }
        default: return x;
    }
}

// `rows` outputs of `n` tokens: each weight is read once, each sum is one chain along the width.
INLINE void dots(const float *w, int width, int rows, const float *x, int n, float (*out)[MOST_TOGETHER]) {
    Floats sums[OUTPUTS][MOST_TOGETHER];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) sums[r][i] = splat(0);
    for (int k = 0; k < width; k += 16) {
        Floats part[MOST_TOGETHER];
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) part[i] = load(x + (size_t)i * (size_t)width + k);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const float *at = w + (size_t)r * (size_t)width + k;
            __builtin_prefetch(at + 4096);
            Floats weight = load(at);
#pragma GCC unroll 8
            for (int i = 0; i < n; i++) sums[r][i] = fma16(weight, part[i], sums[r][i]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) out[r][i] = sum(sums[r][i]);
}

// Four or eight chains at a time, so that registers hold them all; `left` outputs at the end go one by one.
INLINE void dots_of(const float *w, int width, int left, const float *x, int n, float (*out)[MOST_TOGETHER]) {
    int r = 0, step = n <= 2 ? 8 : n <= 4 ? 4 : 2;
    for (; r + step <= left; r += step) {
        const float *at = w + (size_t)r * (size_t)width;
        switch (n) {
            case 1: dots(at, width, 8, x, 1, out + r); break;
            case 2: dots(at, width, 8, x, 2, out + r); break;
            case 3: dots(at, width, 4, x, 3, out + r); break;
            case 4: dots(at, width, 4, x, 4, out + r); break;
            case 5: dots(at, width, 2, x, 5, out + r); break;
            case 6: dots(at, width, 2, x, 6, out + r); break;
            case 7: dots(at, width, 2, x, 7, out + r); break;
            default: dots(at, width, 2, x, 8, out + r);
        }
    }
    for (; r < left; r++)
        for (int i = 0; i < n; i++) {
            float one[1][MOST_TOGETHER];
            dots(w + (size_t)r * (size_t)width, width, 1, x + (size_t)i * (size_t)width, 1, one);
            out[r][i] = one[0][0];
        }
}

// Outputs `first` to `last` of a linear layer, for all tokens.
static void linear_outputs(const Program *p, const Op *op, int first, int last) {
    const float *x = p->buffers[op->from], *residual = op->other < 0 ? NULL : p->buffers[op->other];
    float *to = p->buffers[op->to];
    for (; first < last; first += OUTPUTS) {
        int rows = last - first < OUTPUTS ? last - first : OUTPUTS;
        for (int token = 0; token < p->total; token += MOST_TOGETHER) {
            int n = p->total - token < MOST_TOGETHER ? p->total - token : MOST_TOGETHER;
            float out[OUTPUTS][MOST_TOGETHER];
            dots_of(op->weight + (size_t)first * (size_t)op->width, op->width, rows, x + (size_t)token * (size_t)op->width, n, out);
            for (int i = 0; i < n; i++) {
                size_t at = (size_t)(token + i) * (size_t)op->outputs + (size_t)first;
                float lanes[16] = {0};
                for (int r = 0; r < rows; r++) lanes[r] = out[r][i] + (op->shift ? op->shift[first + r] : 0);
                if (op->activation) store(lanes, activated(op->activation, load(lanes)));
                for (int r = 0; r < rows; r++) to[at + r] = residual ? residual[at + r] + lanes[r] : lanes[r];
            }
        }
    }
}

static void linear_ops(Member *me, const Program *p, const Op *op) {
    int blocks = 0;
    for (int i = 0; i < op->alike; i++) blocks += (op[i].outputs + OUTPUTS - 1) / OUTPUTS;
    int chunk = blocks / (8 * me->threads);
    if (chunk < 1) chunk = 1;
    for (int task; (task = take(me, (blocks + chunk - 1) / chunk)) >= 0;) {
        int begin = task * chunk, end = begin + chunk < blocks ? begin + chunk : blocks;
        for (int i = 0, base = 0; i < op->alike; i++) {
            int mine = (op[i].outputs + OUTPUTS - 1) / OUTPUTS;
            int from = begin > base ? begin - base : 0, to = end - base < mine ? end - base : mine;
            if (from < to) linear_outputs(p, op + i, from * OUTPUTS, to * OUTPUTS < op[i].outputs ? to * OUTPUTS : op[i].outputs);
            base += mine;
        }
    }
}

// The norm of each stretch of d numbers of a token's vector.
static void norm_token(const Program *p, const Op *op, int token) {
    for (int at = 0; at < op->width; at += op->d) {
        const float *x = p->buffers[op->from] + (size_t)token * (size_t)op->width + at;
        float *to = p->buffers[op->to] + (size_t)token * (size_t)op->width + at;
        Floats total = splat(0), squares = splat(0);
        if (op->kind == NORM)
            for (int i = 0; i < op->d; i += 16) total += load(x + i);
        Floats mean = splat(sum(total) / (float)op->d);
        for (int i = 0; i < op->d; i += 16) {
            Floats centred = load(x + i) - mean;
            squares = fma16(centred, centred, squares);
        }
        Floats scale = splat(1.0f / sqrtf(sum(squares) / (float)op->d + op->number));
        for (int i = 0; i < op->d; i += 16) {
            Floats y = (load(x + i) - mean) * scale;
            if (op->weight) y *= load(op->weight + i);
            if (op->shift) y += load(op->shift + i);
            store(to + i, y);
        }
    }
}

// In place: pairs (i, i + turned / 2) of each head's part, by the cosines and sines of the token.
static void rotate_token(const Program *p, const Op *op, int token) {
    const float *c = p->buffers[op->other] + (size_t)token * (size_t)op->turned;
    const float *s = p->buffers[op->third] + (size_t)token * (size_t)op->turned;
    int half = op->turned / 2;
    for (int h = 0; h < op->heads; h++) {
        float *x = p->buffers[op->from] + ((size_t)token * (size_t)op->heads + (size_t)h) * (size_t)op->d + op->first;
        for (int i = 0; i < half; i++) {
            float low = x[i], high = x[half + i];
            x[i] = low * c[i] - high * s[i], x[half + i] = high * c[half + i] + low * s[half + i];
        }
    }
}

static void each_number(const Program *p, const Op *op, int token) {
    size_t at = (size_t)token * (size_t)op->width;
    const float *a = p->buffers[op->from] + at, *b = op->other < 0 ? a : p->buffers[op->other] + at;
    float *to = p->buffers[op->to] + at;
    for (int i = 0; i < op->width; i += 16) {
        Floats x = load(a + i), y = load(b + i);
        switch (op->kind) {
            case SUM: store(to + i, x + y); break;
            case PRODUCT: store(to + i, x * y); break;
            case SCALE: store(to + i, x * splat(op->number)); break;
            default: store(to + i, activated(op->activation, x));
        }
    }
}

// What a token attends to: the key `j` of a head lies at `table[j / size]`, `j % size`.
typedef struct {
    const float *keys, *values;
    const int32_t *table;
    int size, heads, d, first, seen;
} View;

// The queries of one token that share a head of keys, over all that it sees, in blocks with a running softmax.
static void attend_token(const View *v, int head, int group, const float *q, float scale, const float *const *bias, float *out) {
    float mixed[MOST_MIXED], top[64], mass[64], scores[64][KEYS];
    int d = v->d;
    for (int i = 0; i < group; i++) top[i] = -3e38f, mass[i] = 0;
    memset(mixed, 0, sizeof(float) * (size_t)group * (size_t)d);
    for (int first = v->first; first < v->seen; first += KEYS) {
        int count = v->seen - first < KEYS ? v->seen - first : KEYS;
        size_t at[KEYS];
        for (int j = 0; j < count; j++) {
            int key = first + j;
            at[j] = (((size_t)v->table[key / v->size] * (size_t)v->heads + (size_t)head) * (size_t)v->size + (size_t)(key % v->size)) * (size_t)d;
            for (int i = 0; i < group; i++) {
                Floats total = splat(0);
                for (int k = 0; k < d; k += 16) total = fma16(load(q + i * d + k), load(v->keys + at[j] + k), total);
                scores[i][j] = sum(total) * scale + (bias ? bias[i][key] : 0);
            }
        }
        for (int i = 0; i < group; i++) {
            for (int j = count; j < KEYS; j++) scores[i][j] = -3e38f;
            Floats low = load(scores[i]), high = load(scores[i] + 16);
            float most = largest(choose(low > high, low, high));
            if (most > top[i]) {
                float fade = exp16(splat(top[i] - most))[0];
                if (mass[i] > 0)
                    for (int k = 0; k < d; k += 16) store(mixed + i * d + k, load(mixed + i * d + k) * splat(fade));
                mass[i] *= fade, top[i] = most;
            }
            low = exp16(low - splat(top[i])), high = exp16(high - splat(top[i]));
            store(scores[i], low), store(scores[i] + 16, high);
            for (int j = count; j < KEYS; j++) scores[i][j] = 0;
            mass[i] += sum(load(scores[i]) + load(scores[i] + 16));
        }
        for (int k = 0; k < d; k += 16)
            for (int i = 0; i < group; i++) {
                Floats total = load(mixed + i * d + k);
                for (int j = 0; j < count; j++) total = fma16(splat(scores[i][j]), load(v->values + at[j] + k), total);
                store(mixed + i * d + k, total);
            }
    }
    for (int i = 0; i < group; i++)
        for (int k = 0; k < d; k += 16) store(out + i * d + k, load(mixed + i * d + k) * splat(1.0f / mass[i]));
}

static void write_token(const Program *p, const Op *op, int token) {
    size_t d = (size_t)op->d, page = (size_t)(p->slots[token] / p->page_size), offset = (size_t)(p->slots[token] % p->page_size);
    const float *k = p->buffers[op->other] + (size_t)token * (size_t)op->kv_heads * d;
    const float *v = p->buffers[op->third] + (size_t)token * (size_t)op->kv_heads * d;
    for (size_t h = 0; h < (size_t)op->kv_heads; h++) {
        size_t at = (size_t)op->layer * p->layer_floats + ((page * (size_t)op->kv_heads + h) * (size_t)p->page_size + offset) * d;
        memcpy(p->keys + at, k + h * d, d * sizeof(float));
        memcpy(p->values + at, v + h * d, d * sizeof(float));
    }
}

static void attention_task(const Program *p, const Op *op, int task) {
    int token = task / op->kv_heads, head = task % op->kv_heads, group = op->heads / op->kv_heads;
    const float *bias[64];
    View view = {.size = p->page_size, .heads = op->kv_heads, .d = op->d};
    if (op->kind == ATTEND) {
        size_t at = (size_t)op->layer * p->layer_floats;
        view.keys = p->keys + at, view.values = p->values + at;
        view.table = p->tables + (size_t)token * (size_t)p->max_pages, view.seen = p->seen[token];
        view.first = p->places[token] + 1 > op->window ? p->places[token] + 1 - op->window : 0;
    } else {
        view.keys = p->sources[op->layer].keys, view.values = p->sources[op->layer].values;
        view.table = p->source_of + token, view.seen = p->source_seen[token], view.size = p->longest_source;
    }
    for (int i = 0; op->bias >= 0 && i < group; i++)
        bias[i] = p->biases[op->bias] + (size_t)(head * group + i) * (size_t)p->bias_length + (p->bias_length - 1 - p->places[token]);
    size_t at = ((size_t)token * (size_t)op->heads + (size_t)(head * group)) * (size_t)op->d;
    attend_token(&view, head, group, p->buffers[op->from] + at, op->number, op->bias < 0 ? NULL : bias, p->buffers[op->to] + at);
}

static void program_region(Member *me, void *argument) {
    const Program *p = argument;
    for (int i = 0; i < p->count; i += p->ops[i].alike) {
        const Op *op = p->ops + i;
        switch (op->kind) {
            case LINEAR: linear_ops(me, p, op); break;
            case ATTEND:
                for (int task; (task = take(me, p->total)) >= 0;) write_token(p, op, task);
                // falls through
            case CROSS:
                for (int task; (task = take(me, p->total * op->kv_heads)) >= 0;) attention_task(p, op, task);
                break;
            default:
                for (int task; (task = take(me, p->total)) >= 0;)
                    for (int k = 0; k < op->alike; k++) {
                        if (op->kind == ROTATE) rotate_token(p, op + k, task);
                        else if (op->kind == NORM || op->kind == RMS_NORM) norm_token(p, op, task);
                        else each_number(p, op, task);
                    }
        }
    }
}

// Runs a program's operations for the tokens of one step.
EXPORT void kun_program(const Program *p) { run(program_region, (void *)p); }
