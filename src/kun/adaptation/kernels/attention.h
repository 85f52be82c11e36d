// Attention over a paged cache, in blocks of 32 keys with a running softmax (Milakov and Gimelshein, arXiv:1805.02867;
// Dao et al., "FlashAttention", arXiv:2205.14135). Blocks begin at multiples of 32 whatever the page size and the batch.
#pragma once
#include "vectors.h"

enum { KEYS = 32, QUERIES = 16, TOGETHER = 8 };

// One layer of the cache: `keys` and `values` [pages, kv_heads, page_size, d_head], float32 or bfloat16.
typedef struct {
    void *keys, *values;
    int32_t is_bfloat16, page_size, kv_heads, d_head;
} Pages;

INLINE size_t place_in(const Pages *p, int page, int head, int offset) {
    return (((size_t)page * p->kv_heads + head) * p->page_size + offset) * p->d_head;
}

static void write_vector(const Pages *p, void *store_to, size_t at, const float *x) {
    if (!p->is_bfloat16) memcpy((float *)store_to + at, x, sizeof(float) * (size_t)p->d_head);
    else
        for (int i = 0; i < p->d_head; i++) ((uint16_t *)store_to)[at + i] = to_brain_float(x[i]);
}

INLINE Floats read_sixteen(const Pages *p, const void *from, size_t at) {
    return p->is_bfloat16 ? brain_floats((const uint16_t *)from + at) : load((const float *)from + at);
}

// [16][16] turned over, in place.
INLINE void transpose(Floats *m) {
#if defined(__AVX512F__)
    __m512 *r = (__m512 *)m, t[16];
    for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            t[i + j] = _mm512_shuffle_f32x4(r[i + j], r[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_f32x4(r[i + j], r[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0xdd);
    }
#else
    float *f = (float *)m;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++) {
            float kept = f[16 * i + j];
            f[16 * i + j] = f[16 * j + i], f[16 * j + i] = kept;
        }
#endif
}

// One thread's room: a block of keys (a column each) and values, and the state of every query.
typedef struct {
    Floats *keys;    // [d_head][2]: 32 keys side by side
    float *values;   // [32][d_head]
    float *queries;  // [n][d_head], scaled
    float *mixed;    // [n][d_head]
    float *top, *mass;  // [n]: the largest score so far, and the sum of the weights relative to it
    int *place;         // [n]
} Room;

static size_t room_bytes(int group, int d_head) {
    size_t n = (size_t)QUERIES * (size_t)group;
    return ((2 * KEYS + 2 * n) * (size_t)d_head + 4 * n) * sizeof(float) + 512;
}

static Room room_in(char *memory, int group, int d_head) {
    size_t n = (size_t)QUERIES * (size_t)group, d = (size_t)d_head;
    Room r = {.keys = (Floats *)memory};
    r.values = (float *)memory + KEYS * d;
    r.queries = r.values + KEYS * d, r.mixed = r.queries + n * d;
    r.top = r.mixed + n * d, r.mass = r.top + n, r.place = (int *)(r.mass + n);
    return r;
}

static void read_block(const Pages *p, const int32_t *table, int head, int first, int count, Room *room) {
    int d = p->d_head;
    size_t at[KEYS];
    for (int j = 0; j < KEYS; j++) {
        int key = first + (j < count ? j : 0);
        at[j] = place_in(p, table[key / p->page_size], head, key % p->page_size);
    }
    for (int part = 0; part < d; part += 16)
        for (int half = 0; half < 2; half++) {
            Floats square[16];
            for (int j = 0; j < 16; j++) square[j] = read_sixteen(p, p->keys, at[16 * half + j] + (size_t)part);
            transpose(square);
            for (int i = 0; i < 16; i++) room->keys[2 * (part + i) + half] = square[i];
        }
    for (int j = 0; j < count; j++)
        for (int part = 0; part < d; part += 16)
            store(room->values + j * d + part, read_sixteen(p, p->values, at[j] + (size_t)part));
}

// The scores of n queries against the block, [n][32].
INLINE void scores_of(const Room *room, int query, int n, int d, Floats (*scores)[2]) {
    Floats low[TOGETHER], high[TOGETHER];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) low[i] = high[i] = splat(0);
    for (int k = 0; k < d; k++)
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            Floats q = splat(room->queries[(query + i) * d + k]);
            low[i] = fma16(q, room->keys[2 * k], low[i]), high[i] = fma16(q, room->keys[2 * k + 1], high[i]);
        }
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) scores[i][0] = low[i], scores[i][1] = high[i];
}

// Scores to weights relative to the largest so far; what was mixed before is scaled down to it.
static void soften(Room *room, int query, int d, int first, int window, Floats *scores) {
    const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int last = room->place[query] - first, oldest = last - window;
    Ints seen[2] = {(lanes <= last) & (lanes > oldest), (lanes + 16 <= last) & (lanes + 16 > oldest)};
    Floats hidden = splat(-3e38f);
    for (int i = 0; i < 2; i++) scores[i] = choose(seen[i], scores[i], hidden);
    float top = largest(choose(scores[0] > scores[1], scores[0], scores[1]));
    if (top < room->top[query]) top = room->top[query];
    for (int i = 0; i < 2; i++) scores[i] = choose(seen[i], exp16(scores[i] - splat(top)), splat(0));
    float mass = sum(scores[0] + scores[1]);
    if (top > room->top[query]) {
        Floats fade = exp16(splat(room->top[query] - top));
        for (int part = 0; part < d; part += 16)
            store(room->mixed + query * d + part, fade * load(room->mixed + query * d + part));
        room->mass[query] *= fade[0];
    }
    room->mass[query] += mass;
    room->top[query] = top;
}

INLINE void mix(const Room *room, int query, int n, int d, int count, float (*weights)[KEYS]) {
    for (int part = 0; part < d; part += 32) {
        int wide = part + 16 < d;
        Floats low[TOGETHER], high[TOGETHER];
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            float *mixed = room->mixed + (query + i) * d + part;
            low[i] = load(mixed), high[i] = wide ? load(mixed + 16) : splat(0);
        }
        for (int j = 0; j < count; j++) {
            const float *value = room->values + j * d + part;
            Floats a = load(value), b = wide ? load(value + 16) : splat(0);
#pragma GCC unroll 8
            for (int i = 0; i < n; i++) {
                Floats w = splat(weights[i][j]);
                low[i] = fma16(w, a, low[i]), high[i] = fma16(w, b, high[i]);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            float *mixed = room->mixed + (query + i) * d + part;
            store(mixed, low[i]);
            if (wide) store(mixed + 16, high[i]);
        }
    }
}

INLINE void block_of_queries(Room *room, int query, int n, int d, int first, int count, int window) {
    Floats scores[TOGETHER][2];
    scores_of(room, query, n, d, scores);
    for (int i = 0; i < n; i++) {
        int last = room->place[query + i];
        // A block that this query does not see must leave its state alone.
        if (last < first || last - window >= first + count - 1) scores[i][0] = scores[i][1] = splat(0);
        else soften(room, query + i, d, first, window, scores[i]);
    }
    mix(room, query, n, d, count, (float(*)[KEYS])scores);
}

// Queries [n] of one kv head, whose places lie between `earliest` and `latest`, over the row's pages.
static void attend(const Pages *p, const int32_t *table, int head, Room *room, int n, int earliest, int latest, int window) {
    int d = p->d_head;
    for (int i = 0; i < n; i++) room->top[i] = -3e38f, room->mass[i] = 0;
    memset(room->mixed, 0, sizeof(float) * (size_t)n * (size_t)d);
    int first = earliest - window + 1 > 0 ? (earliest - window + 1) / KEYS * KEYS : 0;
    for (; first <= latest; first += KEYS) {
        int count = latest - first + 1 < KEYS ? latest - first + 1 : KEYS, query = 0;
        read_block(p, table, head, first, count, room);
        for (; query + TOGETHER <= n; query += TOGETHER) block_of_queries(room, query, TOGETHER, d, first, count, window);
        for (; query + 2 <= n; query += 2) block_of_queries(room, query, 2, d, first, count, window);
        for (; query < n; query++) block_of_queries(room, query, 1, d, first, count, window);
    }
}
