// One step of a LLaMA-type decoder over a paged cache: the tokens of all rows, packed, through all layers.
#pragma once
#include "attention.h"
#include "linear.h"

// The places of a layer's pairs in an adapter; behind those of all layers is the head's.
enum { QKV, O = 3, GATE_UP, DOWN = 6, PAIRS };

enum { LOW_TOKENS = 8 };

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
    const int64_t *wanted;     // [wanted_count] tokens whose logits are asked for
    void *keys, *values;       // [n_layers, pages, kv_heads, page_size, d_head]
    uint64_t layer_bytes;      // of one layer of either
    int32_t total, rows, max_pages, wanted_count, page_size, is_bfloat16;
    float *logits;             // [wanted_count, vocabulary]
    const Pair *const *adapters;  // [total]: the pairs of each token's adapter, or NULL; NULL where no token has one
    int32_t most_rank, unused;    // of any pair of these
} Step;

// The adapters of the tokens of a product, and which tokens have one at all.
typedef struct {
    const Pair *const *of;  // [n], or NULL where no token has one
    const int32_t *tokens;
    int count;
} Adapters;

// What the threads of one step share besides it.
typedef struct {
    const Step *step;
    float *turns, *qkv, *mixed, *hidden;  // [total, d_head], [total, (n_heads + 2 n_kv_heads) · d_head], …
    float *low;               // [total, 3, most_rank]: A x
    Adapters adapters, of_wanted;
    char *bytes, *rooms, *panels;
    size_t room, panel_room;  // of one thread
    int tasks;
} Work;

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

// What a product has as its input: its rows in 8 bits, and A x of those that have an adapter.
typedef struct {
    Rows rows;
    Lows lows;
} Input;

// A x of some of the tokens that have an adapter, for one block of ranks of one pair.
static void low_task(const Work *w, const Lows *lows, const Adapters *adapters, int task, int blocks, const Source *from) {
    int which = task / blocks % lows->count, rank = task % blocks * LOW_BLOCK, at = task / blocks / lows->count * LOW_TOKENS;
    int end = at + LOW_TOKENS < adapters->count ? at + LOW_TOKENS : adapters->count;
    for (; at < end; at++) {
        size_t token = (size_t)adapters->tokens[at];
        const Pair *pair = adapters->of[token] + lows->first + which;
        if (rank >= pair->rank) continue;
        const float *x = from->x + token * (size_t)from->width;
        float share = from->norm ? norm_scale(x, from->width, from->eps) : 1;
        size_t place = (token * (size_t)lows->count + (size_t)which) * (size_t)lows->most_rank;
        low_block(pair, rank, x, from->width, share, w->low + place);
    }
}

// Rows of x [n, width] in 8 bits, their norm taken first where there are weights for it; and A x for `count` pairs from
// the place `first` on. Each A has the norm's weights in it.
static Input input_phase(
    Member *me, const Work *w, const Adapters *adapters, int first, int count, const float *x, int width, const float *norm, int n
) {
    Input in = {rows_in(w->bytes, n, (width + GROUP - 1) / GROUP), {adapters->of, w->low, first, count, w->step->most_rank}};
    Source from = {x, width, norm, w->step->net->norm_eps};
    int quantizing = quantizing_tasks(&in.rows), blocks = (in.lows.most_rank + LOW_BLOCK - 1) / LOW_BLOCK;
    int lows = (adapters->count + LOW_TOKENS - 1) / LOW_TOKENS * count * blocks;
    for (int task; (task = take(me, lows + quantizing)) >= 0;)
        if (task < lows) low_task(w, &in.lows, adapters, task, blocks, &from);
        else quantize_task(&in.rows, task - lows, &from);
    return in;
}

static void product_phase(
    Member *me, const Work *w, const Matrix *m, int count, enum Then then, const Input *in, float *out, int stride
) {
    Product product = {m, count, then, &in->rows, out, (size_t)stride, in->lows.adapters ? &in->lows : NULL};
    multiply(me, &product, w->panels + w->panel_room * (size_t)me->thread);
}

// Turns queries and keys, and puts keys and values where they belong in the cache.
static void place_phase(Member *me, const Work *w, const Pages *pages) {
    const Step *s = w->step;
    const Decoder *net = s->net;
    int d = net->d_head, wide = (net->n_heads + 2 * net->n_kv_heads) * d;
    for (int t; (t = take(me, s->total)) >= 0;) {
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

static void attention_phase(Member *me, const Work *w, const Pages *pages, int window) {
    const Step *s = w->step;
    const Decoder *net = s->net;
    Room room = room_in(w->rooms + w->room * (size_t)me->thread, net->n_heads / net->n_kv_heads, net->d_head);
    // The last blocks of a row see most: they go first, so that no thread is left with a long one at the end.
    int row = s->rows - 1, base = 0;
    for (int task; (task = take(me, w->tasks)) >= 0;) {
        int blocks = (s->row_starts[row + 1] - s->row_starts[row] + QUERIES - 1) / QUERIES;
        while (task - base >= blocks * net->n_kv_heads) {
            base += blocks * net->n_kv_heads;
            row--;
            blocks = (s->row_starts[row + 1] - s->row_starts[row] + QUERIES - 1) / QUERIES;
        }
        int block = blocks - 1 - (task - base) / net->n_kv_heads, head = (task - base) % net->n_kv_heads;
        attend_block(w, pages, row, block * QUERIES, head, window, &room);
    }
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

static void step_region(Member *me, void *argument) {
    const Work *w = argument;
    const Step *s = w->step;
    const Decoder *net = s->net;
    int total = s->total, wide = net->n_heads * net->d_head, qkv = wide + 2 * net->n_kv_heads * net->d_head;
    Adapters adapters = w->adapters;
    Input in;
    for (int t; (t = take(me, total)) >= 0;) turn_of(net, s->positions[t], w->turns + (size_t)t * net->d_head);
    for (int i = 0; i < net->n_layers; i++) {
        const Layer *layer = net->layers + i;
        size_t at = (size_t)i * s->layer_bytes;
        Pages pages = {(char *)s->keys + at, (char *)s->values + at, s->is_bfloat16, s->page_size, net->n_kv_heads, net->d_head};
        in = input_phase(me, w, &adapters, i * PAIRS + QKV, 3, s->x, net->d_model, layer->attention_norm, total);
        product_phase(me, w, layer->qkv, 3, KEEP, &in, w->qkv, qkv);
        place_phase(me, w, &pages);
        attention_phase(me, w, &pages, layer->window);
        if (i == net->n_layers - 1) {
            for (int task; (task = take(me, 1)) >= 0;) narrow(w);
            total = s->wanted_count;
            adapters = w->of_wanted;
        }
        in = input_phase(me, w, &adapters, i * PAIRS + O, 1, w->mixed, wide, NULL, total);
        product_phase(me, w, &layer->o, 1, ADD, &in, s->x, net->d_model);
        in = input_phase(me, w, &adapters, i * PAIRS + GATE_UP, 2, s->x, net->d_model, layer->mlp_norm, total);
        product_phase(me, w, layer->gate_up, 2, GATE, &in, w->hidden, net->d_ff);
        in = input_phase(me, w, &adapters, i * PAIRS + DOWN, 1, w->hidden, net->d_ff, NULL, total);
        product_phase(me, w, &layer->down, 1, ADD, &in, s->x, net->d_model);
    }
    in = input_phase(me, w, &adapters, net->n_layers * PAIRS, 1, s->x, net->d_model, net->norm, total);
    product_phase(me, w, &net->head, 1, KEEP, &in, s->logits, net->head.outputs);
}

// Those of `n` tokens that have an adapter, listed in `tokens`.
static Adapters listed(const Pair *const *of, int n, int32_t *tokens) {
    Adapters found = {of, tokens, 0};
    for (int i = 0; of && i < n; i++)
        if (of[i]) tokens[found.count++] = i;
    if (!found.count) found.of = NULL;
    return found;
}

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
    size_t groups = (size_t)(widest + GROUP - 1) / GROUP, bytes = padded(rows_bytes(total, groups));
    size_t threads = MAX_THREADS, panels = padded(pair_bytes(s->total, groups));
    size_t low = s->adapters ? padded(total * 3 * (size_t)s->most_rank * 4) : 0;
    size_t wanted = s->adapters ? padded(total * sizeof(Pair *)) : 0, tokens = s->adapters ? padded(total * 4) : 0;
    char *memory = borrow(turns + qkv + mixed + hidden + bytes + (room + panels) * threads + low + wanted + 2 * tokens);
    if (!memory) return 1;
    Work work = {.step = s, .room = room, .panel_room = panels};
    work.turns = (float *)memory, work.qkv = (float *)(memory + turns), work.mixed = (float *)(memory + turns + qkv);
    work.hidden = (float *)(memory + turns + qkv + mixed), work.bytes = memory + turns + qkv + mixed + hidden;
    work.rooms = work.bytes + bytes, work.panels = work.rooms + room * threads;
    work.low = (float *)(work.panels + panels * threads);
    const Pair **of_wanted = (const Pair **)((char *)work.low + low);
    int32_t *lists = (int32_t *)((char *)of_wanted + wanted);
    for (int i = 0; s->adapters && i < s->wanted_count; i++) of_wanted[i] = s->adapters[s->wanted[i]];
    work.adapters = listed(s->adapters, s->total, lists);
    work.of_wanted = listed(s->adapters ? of_wanted : NULL, s->wanted_count, lists + tokens / 4);
    for (int r = 0; r < s->rows; r++)
        work.tasks += (s->row_starts[r + 1] - s->row_starts[r] + QUERIES - 1) / QUERIES * net->n_kv_heads;
    run(step_region, &work);
    give_back(memory);
    return 0;
}
