// One step of a LLaMA-type decoder over a paged cache: the tokens of all rows, packed, through all layers.
#pragma once
#include "attention.h"
#include "linear.h"

typedef struct {
    Matrix qkv[3], o, gate_up[2], down;
    const float *attention_norm, *mlp_norm;  // [d_model]
    int32_t window, unused;                  // tokens that a query sees, itself included
} Layer;

typedef struct {
    const Layer *layers;
    Matrix head;
    const float *norm;         // [d_model]
    const float *frequencies;  // [d_head / 2], radians per position
    int32_t n_layers, d_model, n_heads, n_kv_heads, d_head, d_ff;
    float norm_eps, rotary_scale;
} Decoder;

typedef struct {
    const Decoder *net;
    float *x;                  // [total, d_model]: embedded tokens; overwritten
    const int64_t *positions;  // [total]
    const int64_t *slots;      // [total]: page · page_size + offset
    const int32_t *row_starts, *before, *tables;  // [rows + 1], [rows], [rows, max_pages]
    const int64_t *wanted;     // [wanted_count] tokens whose logits are asked for, or NULL: all
    void *keys, *values;       // [n_layers, pages, kv_heads, page_size, d_head]
    uint64_t layer_bytes;      // of one layer of either
    int32_t total, rows, max_pages, wanted_count, page_size, is_bfloat16;
    float *logits;             // [wanted_count or total, vocabulary]
} Step;

// What the threads of one step share besides it.
typedef struct {
    const Step *step;
    float *turns, *qkv, *mixed, *hidden;  // [total, d_head], [total, (n_heads + 2 n_kv_heads) · d_head], …
    char *bytes, *rooms;
    size_t room;
    int tasks;
} Work;

static void rms_norm(const float *x, const float *weight, float eps, int n, float *out) {
    Floats squares = splat(0);
    int i = 0;
    for (; i + 16 <= n; i += 16) squares = fma16(load(x + i), load(x + i), squares);
    float total = sum(squares);
    for (; i < n; i++) total += x[i] * x[i];
    float scale = 1.0f / sqrtf(total / (float)n + eps);
    for (i = 0; i + 16 <= n; i += 16) store(out + i, load(x + i) * splat(scale) * load(weight + i));
    for (; i < n; i++) out[i] = x[i] * scale * weight[i];
}

// Cosines, then sines.
static void turn_of(const Decoder *net, int64_t position, float *turn) {
    int half = net->d_head / 2;
    for (int i = 0; i < half; i++) {
        float angle = (float)position * net->frequencies[i];
        turn[i] = cosf(angle) * net->rotary_scale, turn[half + i] = sinf(angle) * net->rotary_scale;
    }
}

static void rotate(float *x, const float *turn, int half) {
    for (int i = 0; i < half; i++) {
        float low = x[i], high = x[half + i], c = turn[i], s = turn[half + i];
        x[i] = low * c - high * s, x[half + i] = high * c + low * s;
    }
}

static void norm_phase(Team *team, const Decoder *net, const float *x, const float *weight, Rows *rows, char *bytes, int n) {
    *rows = rows_in(bytes, n, (net->d_model + GROUP - 1) / GROUP);
    float normed[net->d_model];
    for (int t; (t = take(team)) < n;) {
        rms_norm(x + (size_t)t * net->d_model, weight, net->norm_eps, net->d_model, normed);
        quantize_row(rows, t, normed, net->d_model);
    }
    meet(team);
}

static void quantize_phase(Team *team, const float *x, int width, Rows *rows, char *bytes, int n) {
    *rows = rows_in(bytes, n, (width + GROUP - 1) / GROUP);
    for (int t; (t = take(team)) < n;) quantize_row(rows, t, x + (size_t)t * width, width);
    meet(team);
}

static void product_phase(Team *team, const Matrix *m, int count, enum Then then, const Rows *rows, float *out, int stride) {
    Product product = {m, count, then, rows, out, (size_t)stride};
    multiply(team, &product);
    meet(team);
}

// Turns queries and keys, and puts keys and values where they belong in the cache.
static void place_phase(Team *team, const Work *w, const Pages *pages) {
    const Step *s = w->step;
    const Decoder *net = s->net;
    int d = net->d_head, wide = (net->n_heads + 2 * net->n_kv_heads) * d;
    for (int t; (t = take(team)) < s->total;) {
        float *q = w->qkv + (size_t)t * wide, *k = q + net->n_heads * d, *v = k + net->n_kv_heads * d;
        const float *turn = w->turns + (size_t)t * d;
        int page = (int)(s->slots[t] / s->page_size), offset = (int)(s->slots[t] % s->page_size);
        for (int h = 0; h < net->n_heads; h++) rotate(q + h * d, turn, d / 2);
        for (int h = 0; h < net->n_kv_heads; h++) {
            rotate(k + h * d, turn, d / 2);
            write_vector(pages, pages->keys, place_in(pages, page, h, offset), k + h * d);
            write_vector(pages, pages->values, place_in(pages, page, h, offset), v + h * d);
        }
    }
    meet(team);
}

// The queries of at most 16 tokens of a row, for one kv head.
static void attend_block(const Work *w, const Pages *pages, int row, int first, int head, int window, Room *room) {
    const Step *s = w->step;
    const Decoder *net = s->net;
    int d = net->d_head, group = net->n_heads / net->n_kv_heads, wide = (net->n_heads + 2 * net->n_kv_heads) * d;
    int start = s->row_starts[row] + first, count = s->row_starts[row + 1] - start;
    if (count > QUERIES) count = QUERIES;
    float scale = 1.0f / sqrtf((float)d);
    for (int i = 0; i < count * group; i++) {
        const float *q = w->qkv + (size_t)(start + i / group) * wide + (head * group + i % group) * d;
        for (int k = 0; k < d; k++) room->queries[i * d + k] = q[k] * scale;
        room->place[i] = s->before[row] + first + i / group;
    }
    int earliest = s->before[row] + first;
    attend(pages, s->tables + (size_t)row * s->max_pages, head, room, count * group, earliest, earliest + count - 1, window);
    for (int i = 0; i < count * group; i++) {
        float *out = w->mixed + ((size_t)(start + i / group) * net->n_heads + head * group + i % group) * d;
        float share = 1.0f / room->mass[i];
        for (int k = 0; k < d; k++) out[k] = room->mixed[i * d + k] * share;
    }
}

static void attention_phase(Team *team, int thread, const Work *w, const Pages *pages, int window) {
    const Step *s = w->step;
    const Decoder *net = s->net;
    Room room = room_in(w->rooms + w->room * (size_t)thread, net->n_heads / net->n_kv_heads, net->d_head);
    // The last blocks of a row see most: they go first, so that no thread is left with a long one at the end.
    int row = s->rows - 1, base = 0;
    for (int task; (task = take(team)) < w->tasks;) {
        int blocks = (s->row_starts[row + 1] - s->row_starts[row] + QUERIES - 1) / QUERIES;
        while (task - base >= blocks * net->n_kv_heads) {
            base += blocks * net->n_kv_heads;
            row--;
            blocks = (s->row_starts[row + 1] - s->row_starts[row] + QUERIES - 1) / QUERIES;
        }
        int block = blocks - 1 - (task - base) / net->n_kv_heads, head = (task - base) % net->n_kv_heads;
        attend_block(w, pages, row, block * QUERIES, head, window, &room);
    }
    meet(team);
}

// Leaves the wanted tokens alone in x and mixed: after the last attention no token needs another.
static void narrow(const Work *w) {
    const Step *s = w->step;
    const Decoder *net = s->net;
    size_t wide = (size_t)net->n_heads * (size_t)net->d_head, d = (size_t)net->d_model;
    // `qkv` and `hidden` are free here and large enough to hold the chosen rows while others are overwritten.
    for (int i = 0; i < s->wanted_count; i++) {
        memcpy(w->qkv + (size_t)i * wide, w->mixed + (size_t)s->wanted[i] * wide, wide * sizeof(float));
        memcpy(w->hidden + (size_t)i * d, s->x + (size_t)s->wanted[i] * d, d * sizeof(float));
    }
    memcpy(w->mixed, w->qkv, (size_t)s->wanted_count * wide * sizeof(float));
    memcpy(s->x, w->hidden, (size_t)s->wanted_count * d * sizeof(float));
}

static void step_region(Team *team, int thread, void *argument) {
    const Work *w = argument;
    const Step *s = w->step;
    const Decoder *net = s->net;
    int total = s->total, wide = net->n_heads * net->d_head, qkv = wide + 2 * net->n_kv_heads * net->d_head;
    Rows rows;
    for (int t; (t = take(team)) < total;) turn_of(net, s->positions[t], w->turns + (size_t)t * net->d_head);
    meet(team);
    for (int i = 0; i < net->n_layers; i++) {
        const Layer *layer = net->layers + i;
        size_t at = (size_t)i * s->layer_bytes;
        Pages pages = {(char *)s->keys + at, (char *)s->values + at, s->is_bfloat16, s->page_size, net->n_kv_heads, net->d_head};
        norm_phase(team, net, s->x, layer->attention_norm, &rows, w->bytes, total);
        product_phase(team, layer->qkv, 3, KEEP, &rows, w->qkv, qkv);
        place_phase(team, w, &pages);
        attention_phase(team, thread, w, &pages, layer->window);
        if (i == net->n_layers - 1 && s->wanted) {
            if (thread == 0) narrow(w);
            total = s->wanted_count;
            meet(team);
        }
        quantize_phase(team, w->mixed, wide, &rows, w->bytes, total);
        product_phase(team, &layer->o, 1, ADD, &rows, s->x, net->d_model);
        norm_phase(team, net, s->x, layer->mlp_norm, &rows, w->bytes, total);
        product_phase(team, layer->gate_up, 2, GATE, &rows, w->hidden, net->d_ff);
        quantize_phase(team, w->hidden, net->d_ff, &rows, w->bytes, total);
        product_phase(team, &layer->down, 1, ADD, &rows, s->x, net->d_model);
    }
    norm_phase(team, net, s->x, net->norm, &rows, w->bytes, total);
    product_phase(team, &net->head, 1, KEEP, &rows, s->logits, net->head.outputs);
}

INLINE size_t padded(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

// Runs one step; not zero where memory ran out.
EXPORT int kun_step(const Step *s) {
    const Decoder *net = s->net;
    size_t total = (size_t)(s->total > s->wanted_count ? s->total : s->wanted_count), d = (size_t)net->d_head;
    int group = net->n_heads / net->n_kv_heads, wide = net->n_heads * net->d_head;
    int widest = net->d_ff > wide ? net->d_ff : wide;
    widest = widest > net->d_model ? widest : net->d_model;
    size_t turns = padded(total * d * 4), mixed = padded(total * (size_t)wide * 4);
    size_t qkv = padded(total * (size_t)(net->n_heads + 2 * net->n_kv_heads) * d * 4);
    size_t hidden = padded(total * (size_t)widest * 4), room = padded(room_bytes(group, net->d_head));
    size_t bytes = padded(rows_bytes(total, (size_t)(widest + GROUP - 1) / GROUP));
    char *memory = aligned_alloc(64, turns + qkv + mixed + hidden + bytes + room * MAX_THREADS);
    if (!memory) return 1;
    Work work = {.step = s, .room = room};
    work.turns = (float *)memory, work.qkv = (float *)(memory + turns), work.mixed = (float *)(memory + turns + qkv);
    work.hidden = (float *)(memory + turns + qkv + mixed), work.bytes = memory + turns + qkv + mixed + hidden;
    work.rooms = work.bytes + bytes;
    for (int r = 0; r < s->rows; r++)
        work.tasks += (s->row_starts[r + 1] - s->row_starts[r] + QUERIES - 1) / QUERIES * net->n_kv_heads;
    run(step_region, &work);
    free(memory);
    return 0;
}
