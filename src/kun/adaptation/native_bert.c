/* All layers of a BERT-type encoder on packed rows, for CPUs with AVX512-VNNI and AVX512-BF16.

   Projections multiply unsigned 8-bit states (a scale and a zero point for each token, found as they come) by
   signed 8-bit weights (a scale for each output), and add up in 32 bits, exactly. Attention runs in bfloat16 with
   float32 sums. Norms, residuals and the activation are float32.

   Work is cut into blocks of tokens that run from one attention to the next without leaving the cache, and into
   (row, head) pairs for attention; threads take the next piece when they are done, so that a busy neighbour
   holds nobody up. Plain pthreads: a second OpenMP runtime would fight with torch's for the cores. */

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 6, PANEL = 64, MOST_BLOCK = 48, MOST_THREADS = 64 };

/* One projection. `weights`: [outputs / 64][inputs / 4][64][4]; `sums`: of each output's weights. */
typedef struct {
    const int8_t *weights;
    const float *scale, *bias;
    const int32_t *sums;
} Linear;

typedef struct {
    Linear qkv, o, up, down;
    const float *norm1_weight, *norm1_bias, *norm2_weight, *norm2_bias;
} Layer;

typedef struct {
    const Layer *layers;
    int32_t n_layers, width, wide, heads;
    float eps;
    float *x;              /* [total, width], in and out */
    uint16_t *qkv;         /* [total, 3 * width], bfloat16 */
    float *mixed;          /* [total, width] */
    const int32_t *bounds; /* [rows + 1] */
    int32_t rows, longest, block, threads;
    atomic_int arrived, generation, failed;
    atomic_int *next; /* the next piece of each phase */
} Job;

/* What a thread works in: a block of states, quantized and not, and one head's keys, values and scores. */
typedef struct {
    uint8_t *bytes;
    float *wide, *scale, *scores;
    int32_t *zero;
    uint32_t *keys, *values;
    uint16_t *weights;
} Scratch;

static void meet(Job *job) {
    int generation = atomic_load(&job->generation);
    if (atomic_fetch_add(&job->arrived, 1) == job->threads - 1) {
        atomic_store(&job->arrived, 0);
        atomic_fetch_add(&job->generation, 1);
        return;
    }
    for (int spins = 0; atomic_load(&job->generation) == generation; spins++) {
        if (spins < 4096) _mm_pause();
        else sched_yield();
    }
}

static inline __m512 exp2_ps(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 part = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(1.33336e-3f);
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(9.61813e-3f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(5.550411e-2f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* x / 2 * (1 + erf(x / sqrt(2))), erf by Abramowitz and Stegun 7.1.26 (error below 2e-7). */
static inline __m512 gelu_ps(__m512 x) {
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    __m512 t = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f)));
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    __m512 e = exp2_ps(_mm512_mul_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(-1.44269504f)));
    __m512 tail = _mm512_mul_ps(_mm512_mul_ps(p, t), e); /* 1 - erf(|z|) */
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    __m512 twice = _mm512_mask_blend_ps(negative, _mm512_sub_ps(_mm512_set1_ps(2.0f), tail), tail);
    return _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5f)), twice);
}

static inline __m512 widen(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Each row of x [n, width] to bytes: x = scale * (byte - zero). Padding rows up to a whole group are zeros. */
static void quantize(const float *x, int n, int width, uint8_t *bytes, float *scale, int32_t *zero) {
    for (int r = 0; r < n; r++) {
        const float *row = x + (size_t)r * width;
        __m512 low = _mm512_setzero_ps(), high = low;
        for (int i = 0; i < width; i += 16) {
            __m512 v = _mm512_loadu_ps(row + i);
            low = _mm512_min_ps(low, v), high = _mm512_max_ps(high, v);
        }
        float lo = _mm512_reduce_min_ps(low), hi = _mm512_reduce_max_ps(high);
        float step = hi > lo ? (hi - lo) / 255.0f : 1.0f;
        int shift = (int)lrintf(-lo / step);
        scale[r] = step, zero[r] = shift;
        __m512 inverse = _mm512_set1_ps(1.0f / step), offset = _mm512_set1_ps((float)shift);
        for (int i = 0; i < width; i += 16) {
            __m512i v = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_loadu_ps(row + i), inverse, offset));
            v = _mm512_max_epi32(v, _mm512_setzero_si512());
            _mm_storeu_si128((__m128i *)(bytes + (size_t)r * width + i), _mm512_cvtusepi32_epi8(v));
        }
    }
    int padded = (n + GROUP - 1) / GROUP * GROUP;
    memset(bytes + (size_t)n * width, 0, (size_t)(padded - n) * width);
}

/* Sums stay in registers only when each has a name of its own: compilers keep an array of 24 in memory. */
#define SIX(M) M(0) M(1) M(2) M(3) M(4) M(5)
#define BROADCAST(from) ({ int32_t four_; memcpy(&four_, from, 4); _mm512_set1_epi32(four_); })

/* One group of rows by one panel of 64 outputs. Not inlined: constants of what follows would take its registers. */
static __attribute__((noinline)) void multiply(
    const uint8_t *bytes, const int8_t *panel, int inputs, int32_t sums[GROUP][PANEL]) {
    size_t stride = inputs;
#define START(r) __m512i s##r##0 = _mm512_setzero_si512(), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define STEP(r)                                           \
    a = BROADCAST(bytes + r * stride + k);                \
    s##r##0 = _mm512_dpbusd_epi32(s##r##0, a, w0);        \
    s##r##1 = _mm512_dpbusd_epi32(s##r##1, a, w1);        \
    s##r##2 = _mm512_dpbusd_epi32(s##r##2, a, w2);        \
    s##r##3 = _mm512_dpbusd_epi32(s##r##3, a, w3);
#define KEEP(r)                                                                           \
    _mm512_store_si512(sums[r], s##r##0), _mm512_store_si512(sums[r] + 16, s##r##1);      \
    _mm512_store_si512(sums[r] + 32, s##r##2), _mm512_store_si512(sums[r] + 48, s##r##3);
    SIX(START)
    for (int k = 0; k < inputs; k += 4, panel += 4 * PANEL) {
        __m512i w0 = _mm512_loadu_si512(panel), w1 = _mm512_loadu_si512(panel + 64), a;
        __m512i w2 = _mm512_loadu_si512(panel + 128), w3 = _mm512_loadu_si512(panel + 192);
        SIX(STEP)
    }
    SIX(KEEP)
#undef START
#undef STEP
#undef KEEP
}

enum Ending { TO_FLOAT, TO_GELU, TO_BFLOAT };

/* out [n, outputs] = ending(bytes · weights + bias). */
static inline __attribute__((always_inline)) void project(
    const Linear *linear, const Scratch *s, int n, int inputs, int outputs, void *out, enum Ending ending) {
    for (int o = 0; o < outputs; o += PANEL) {
        const int8_t *panel = linear->weights + (size_t)o * inputs;
        for (int first = 0; first < n; first += GROUP) {
            _Alignas(64) int32_t sums[GROUP][PANEL];
            multiply(s->bytes + (size_t)first * inputs, panel, inputs, sums);
            int rows = n - first < GROUP ? n - first : GROUP;
            for (int r = 0; r < rows; r++) {
                __m512 scale = _mm512_set1_ps(s->scale[first + r]);
                __m512i zero = _mm512_set1_epi32(s->zero[first + r]);
                size_t place = (size_t)(first + r) * outputs + o;
                for (int c = 0; c < 4; c++) {
                    int at = o + 16 * c;
                    __m512i moved = _mm512_mullo_epi32(zero, _mm512_loadu_si512(linear->sums + at));
                    __m512 y = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums[r] + 16 * c), moved));
                    y = _mm512_mul_ps(y, _mm512_mul_ps(scale, _mm512_loadu_ps(linear->scale + at)));
                    y = _mm512_add_ps(y, _mm512_loadu_ps(linear->bias + at));
                    if (ending == TO_GELU) y = gelu_ps(y);
                    if (ending == TO_BFLOAT)
                        _mm256_storeu_si256((__m256i *)((uint16_t *)out + place + 16 * c), (__m256i)_mm512_cvtneps_pbh(y));
                    else _mm512_storeu_ps((float *)out + place + 16 * c, y);
                }
            }
        }
    }
}

/* x = norm(x + y), row by row. */
static void add_norm(float *x, const float *y, int n, int width, const float *weight, const float *bias, float eps) {
    for (int r = 0; r < n; r++) {
        float *row = x + (size_t)r * width;
        const float *other = y + (size_t)r * width;
        __m512 total = _mm512_setzero_ps(), squares = total;
        for (int i = 0; i < width; i += 16) {
            __m512 v = _mm512_add_ps(_mm512_loadu_ps(row + i), _mm512_loadu_ps(other + i));
            _mm512_storeu_ps(row + i, v);
            total = _mm512_add_ps(total, v);
        }
        __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / width);
        for (int i = 0; i < width; i += 16) {
            __m512 v = _mm512_sub_ps(_mm512_loadu_ps(row + i), mean);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / width + eps));
        for (int i = 0; i < width; i += 16) {
            __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + i), mean), inverse);
            _mm512_storeu_ps(row + i, _mm512_fmadd_ps(v, _mm512_loadu_ps(weight + i), _mm512_loadu_ps(bias + i)));
        }
    }
}

/* Keys of one head to [length / 64][pairs][64] pairs along the head; values to [length / 2][d_head] pairs of keys. */
static void pack_head(const uint16_t *keys, const uint16_t *values, int length, int d_head, int stride, Scratch *s) {
    int pairs = d_head / 2, padded = (length + 63) / 64 * 64;
    memset(s->keys, 0, (size_t)padded * pairs * 4);
    memset(s->values, 0, (size_t)padded / 2 * d_head * 4);
    for (int t = 0; t < length; t++) {
        uint32_t *to = s->keys + (size_t)(t / 64) * pairs * 64 + t % 64;
        const uint16_t *from = keys + (size_t)t * stride;
        for (int p = 0; p < pairs; p++) memcpy(to + (size_t)p * 64, from + 2 * p, 4);
        uint16_t *half = (uint16_t *)(s->values + (size_t)(t / 2) * d_head) + t % 2;
        for (int i = 0; i < d_head; i++) half[2 * i] = values[(size_t)t * stride + i];
    }
}

/* Scores of a group of queries (already scaled, in powers of two) to bfloat16 weights; returns their sums. */
static void weigh(const uint16_t *queries[GROUP], int length, int d_head, const Scratch *s, float sums[GROUP]) {
    int pairs = d_head / 2, padded = (length + 63) / 64 * 64;
    for (int block = 0; block < padded; block += 64) {
        const uint32_t *keys = s->keys + (size_t)block * pairs;
#define START(r) __m512 s##r##0 = _mm512_setzero_ps(), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define STEP(r)                                          \
    q = (__m512bh)BROADCAST(queries[r] + 2 * p);         \
    s##r##0 = _mm512_dpbf16_ps(s##r##0, q, k0);          \
    s##r##1 = _mm512_dpbf16_ps(s##r##1, q, k1);          \
    s##r##2 = _mm512_dpbf16_ps(s##r##2, q, k2);          \
    s##r##3 = _mm512_dpbf16_ps(s##r##3, q, k3);
#define KEEP(r)                                                       \
    to = s->scores + (size_t)r * padded + block;                      \
    _mm512_storeu_ps(to, s##r##0), _mm512_storeu_ps(to + 16, s##r##1); \
    _mm512_storeu_ps(to + 32, s##r##2), _mm512_storeu_ps(to + 48, s##r##3);
        SIX(START)
        for (int p = 0; p < pairs; p++, keys += 64) {
            __m512bh k0 = (__m512bh)_mm512_loadu_si512(keys), k1 = (__m512bh)_mm512_loadu_si512(keys + 16), q;
            __m512bh k2 = (__m512bh)_mm512_loadu_si512(keys + 32), k3 = (__m512bh)_mm512_loadu_si512(keys + 48);
            SIX(STEP)
        }
        float *to;
        SIX(KEEP)
#undef START
#undef STEP
#undef KEEP
    }
    for (int r = 0; r < GROUP; r++) {
        float *row = s->scores + (size_t)r * padded;
        for (int t = length; t < padded; t++) row[t] = -INFINITY;
        __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
        for (int t = 0; t < padded; t += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(row + t));
        most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
        for (int t = 0; t < padded; t += 16) {
            __m512 raw = _mm512_sub_ps(_mm512_loadu_ps(row + t), most);
            __mmask16 there = _mm512_cmp_ps_mask(raw, _mm512_set1_ps(-126.0f), _CMP_GT_OQ);
            __m256i half = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_mov_ps(there, exp2_ps(raw)));
            _mm256_storeu_si256((__m256i *)(s->weights + (size_t)r * padded + t), half);
            total = _mm512_add_ps(total, widen(half));
        }
        sums[r] = _mm512_reduce_add_ps(total);
    }
}

/* One head of one row: mixed = softmax(q · k) · v. */
static void attend(Job *job, int row, int head, Scratch *s) {
    int width = job->width, d_head = width / job->heads, stride = 3 * width, vectors = d_head / 16;
    int start = job->bounds[row], length = job->bounds[row + 1] - start, padded = (length + 63) / 64 * 64;
    const uint16_t *base = job->qkv + (size_t)start * stride + (size_t)head * d_head;
    pack_head(base + width, base + 2 * width, length, d_head, stride, s);
    for (int first = 0; first < length; first += GROUP) {
        const uint16_t *queries[GROUP];
        for (int r = 0; r < GROUP; r++) {
            int t = first + r < length ? first + r : length - 1;
            queries[r] = base + (size_t)t * stride;
        }
        float sums[GROUP];
        weigh(queries, length, d_head, s, sums);
        int count = length - first < GROUP ? length - first : GROUP;
        for (int v = 0; v < vectors; v += 2) {
            int second = v + 1 < vectors;
            size_t row_size = padded;
#define START(r) __m512 o##r##0 = _mm512_setzero_ps(), o##r##1 = o##r##0;
#define STEP(r)                                              \
    w = (__m512bh)BROADCAST(s->weights + r * row_size + t);   \
    o##r##0 = _mm512_dpbf16_ps(o##r##0, w, v0);              \
    o##r##1 = _mm512_dpbf16_ps(o##r##1, w, v1);
#define KEEP(r)                                                              \
    if (r < count) {                                                         \
        __m512 inverse = _mm512_set1_ps(1.0f / sums[r]);                     \
        _mm512_storeu_ps(to + r * width, _mm512_mul_ps(o##r##0, inverse));   \
        if (second) _mm512_storeu_ps(to + r * width + 16, _mm512_mul_ps(o##r##1, inverse)); \
    }
            SIX(START)
            for (int t = 0; t < padded; t += 2) {
                const uint32_t *values = s->values + (size_t)(t / 2) * d_head + 16 * v;
                __m512bh v0 = (__m512bh)_mm512_loadu_si512(values), w;
                __m512bh v1 = (__m512bh)_mm512_loadu_si512(values + 16 * second);
                SIX(STEP)
            }
            float *to = job->mixed + (size_t)(start + first) * width + (size_t)head * d_head + 16 * v;
            SIX(KEEP)
#undef START
#undef STEP
#undef KEEP
        }
    }
}

static void to_qkv(Job *job, const Layer *layer, int start, int n, Scratch *s) {
    int width = job->width;
    quantize(job->x + (size_t)start * width, n, width, s->bytes, s->scale, s->zero);
    project(&layer->qkv, s, n, width, 3 * width, job->qkv + (size_t)start * 3 * width, TO_BFLOAT);
}

/* Tokens [start, start + n): from what attention mixed to the layer's end. */
static void finish_layer(Job *job, const Layer *layer, int start, int n, Scratch *s) {
    int width = job->width;
    float *x = job->x + (size_t)start * width, *mixed = job->mixed + (size_t)start * width;
    quantize(mixed, n, width, s->bytes, s->scale, s->zero);
    project(&layer->o, s, n, width, width, mixed, TO_FLOAT);
    add_norm(x, mixed, n, width, layer->norm1_weight, layer->norm1_bias, job->eps);
    quantize(x, n, width, s->bytes, s->scale, s->zero);
    project(&layer->up, s, n, width, job->wide, s->wide, TO_GELU);
    quantize(s->wide, n, job->wide, s->bytes, s->scale, s->zero);
    project(&layer->down, s, n, job->wide, width, mixed, TO_FLOAT);
    add_norm(x, mixed, n, width, layer->norm2_weight, layer->norm2_bias, job->eps);
}

static void *room(char **at, size_t bytes) {
    void *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

static char *get_scratch(const Job *job, Scratch *s) {
    int padded = (job->longest + 63) / 64 * 64, d_head = job->width / job->heads;
    int widest = job->wide > job->width ? job->wide : job->width;
    size_t bytes = (size_t)(MOST_BLOCK + GROUP) * widest, keys = (size_t)padded * d_head * 2;
    size_t rows = (size_t)GROUP * padded;
    char *memory = aligned_alloc(64, (bytes * 5 + keys * 2 + rows * 6 + MOST_BLOCK * 16 + 64 * 16) / 64 * 64);
    char *at = memory;
    if (!memory) return NULL;
    s->bytes = room(&at, bytes), s->wide = room(&at, bytes * 4);
    s->scale = room(&at, MOST_BLOCK * 4), s->zero = room(&at, MOST_BLOCK * 4);
    s->keys = room(&at, keys), s->values = room(&at, keys);
    s->scores = room(&at, rows * 4), s->weights = room(&at, rows * 2);
    return memory;
}

static void *work(void *argument) {
    Job *job = argument;
    Scratch s;
    char *memory = get_scratch(job, &s);
    if (!memory) atomic_store(&job->failed, 1);
    meet(job);
    if (!atomic_load(&job->failed)) {
        int total = job->bounds[job->rows], blocks = (total + job->block - 1) / job->block;
        for (int l = -1; l < job->n_layers; l++) {
            const Layer *layer = job->layers + l;
            for (int piece; l >= 0 && (piece = atomic_fetch_add(&job->next[2 * l], 1)) < job->rows * job->heads;)
                attend(job, piece / job->heads, piece % job->heads, &s);
            if (l >= 0) meet(job);
            for (int piece; (piece = atomic_fetch_add(&job->next[2 * l + 1], 1)) < blocks;) {
                int start = piece * job->block, n = total - start < job->block ? total - start : job->block;
                if (l >= 0) finish_layer(job, layer, start, n, &s);
                if (l + 1 < job->n_layers) to_qkv(job, layer + 1, start, n, &s);
            }
            meet(job);
        }
    }
    free(memory);
    return NULL;
}

/* 0 when done, 1 when there was no memory. x [total, width] float32 is replaced by the last layer's states. */
int kun_bert(const Layer *layers, int32_t n_layers, int32_t width, int32_t wide, int32_t heads, float eps, float *x,
             const int32_t *bounds, int32_t rows, int32_t threads) {
    int32_t total = bounds[rows], longest = 0;
    for (int r = 0; r < rows; r++) longest = bounds[r + 1] - bounds[r] > longest ? bounds[r + 1] - bounds[r] : longest;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    int32_t share = ((total + threads - 1) / threads + GROUP - 1) / GROUP * GROUP;
    Job job = {.layers = layers, .n_layers = n_layers, .width = width, .wide = wide, .heads = heads, .eps = eps,
               .x = x, .bounds = bounds, .rows = rows, .longest = longest,
               .block = share < MOST_BLOCK ? share : MOST_BLOCK, .threads = threads};
    atomic_int *next = calloc(2 * (size_t)n_layers + 1, sizeof(atomic_int));
    job.qkv = malloc((size_t)total * width * 6), job.mixed = malloc((size_t)total * width * 4);
    int failed = !next || !job.qkv || !job.mixed;
    if (!failed) {
        pthread_t others[MOST_THREADS];
        job.next = next + 1;
        int started = 1;
        while (started < threads && !pthread_create(&others[started], NULL, work, &job)) started++;
        if (started < threads) { /* stand in for those that could not start, so that the others go home */
            atomic_store(&job.failed, 1);
            atomic_fetch_add(&job.arrived, threads - started);
        }
        work(&job);
        for (int t = 1; t < started; t++) pthread_join(others[t], NULL);
        failed = atomic_load(&job.failed);
    }
    free(next), free(job.qkv), free(job.mixed);
    return failed;
}
