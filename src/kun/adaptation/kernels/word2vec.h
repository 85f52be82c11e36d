// Skip-gram and CBOW with negative sampling (Mikolov et al., arXiv:1310.4546), by threads that write without locks
// (Recht et al., "Hogwild", arXiv:1106.5730).
//
// All context words of one place share its negatives (Ji et al., arXiv:1604.04661): the rows of a place's targets are
// read once, and two context words at a time meet all of them. Rows are padded with zeros to whole vectors.
#pragma once
#include "vectors.h"

enum { WORDS_OF_TASK = 2048, MOST_TARGETS = 32, MOST_NUMBERS = 4096, LOSS_EVERY = 16, TARGETS = 8 };

typedef struct { uint32_t chance; int32_t other; } Column;  // of Walker's alias table

typedef struct {
    const int32_t *text;      // ids, -1 between sentences
    float *input, *output;    // rows of `width` floats
    const uint32_t *keep;     // of each word, the chance to be kept, in 2^-32; UINT32_MAX: always
    const Column *columns;    // of each word, for drawing negatives
    int64_t length;
    uint64_t seed;
    int32_t words, width, window, negatives, cbow, threads;
    float rate;
    double loss;              // out: the sum over `predictions` sampled ones
    int64_t predictions;
} Word2Vec;

// SplitMix64 (Steele et al., 2014).
INLINE uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

INLINE int32_t draw_word(const Word2Vec *w, uint64_t *state) {
    uint64_t random = draw(state);
    int32_t column = (int32_t)((random >> 32) * (uint64_t)w->words >> 32);
    Column c = w->columns[column];
    return (uint32_t)random < c.chance ? column : c.other;
}

typedef struct { int count; float *row[MOST_TARGETS]; } Places;  // the word itself, then its negatives

INLINE void draw_targets(const Word2Vec *w, int32_t word, uint64_t *state, Places *targets) {
    targets->row[0] = w->output + (int64_t)word * w->width;
    targets->count = 1;
    for (int n = 0; n < w->negatives; n++) {
        int32_t negative = draw_word(w, state);
        if (negative != word) targets->row[targets->count++] = w->output + (int64_t)negative * w->width;
    }
    for (int t = 0; t < targets->count; t++)
        for (int i = 0; i < w->width; i += 16) __builtin_prefetch(targets->row[t] + i, 1);
}

#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif

// Neighbouring blocks of 8, 4, 2 or 1 lanes added: the sums of a's blocks and of b's, in turns.
INLINE Floats fold8(Floats a, Floats b) {
    return PICK(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
         + PICK(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}
INLINE Floats fold4(Floats a, Floats b) {
    return PICK(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
         + PICK(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
}
INLINE Floats fold2(Floats a, Floats b) {
    return PICK(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
         + PICK(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
INLINE Floats fold1(Floats a, Floats b) {
    return PICK(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
         + PICK(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}

// The sums of 16 vectors, one in each lane, in their order.
INLINE Floats sums(const Floats *x) {
    Floats eight[8], four[4], two[2];
    for (int i = 0; i < 8; i++) eight[i] = fold8(x[i], x[i + 8]);
    for (int i = 0; i < 4; i++) four[i] = fold4(eight[i], eight[i + 4]);
    for (int i = 0; i < 2; i++) two[i] = fold2(four[i], four[i + 2]);
    return fold1(two[0], two[1]);
}

// ln(1 + e^x), the loss of a logit -x.
INLINE double softplus(float x) { return (x > 0 ? x : 0) + log1p(exp(-fabs((double)x))); }

// Up to two hidden rows against up to eight targets: adds the gradients into `change` and the targets' own rows.
// `first`: whether target 0 is the word itself, all others are negatives.
INLINE void meet(const float *const *hidden, float *const *change, const int hiddens, float *const *target,
                 const int targets, int width, float rate, int first, double *loss) {
    Floats products[16];
    for (int i = 0; i < 16; i++) products[i] = splat(0);
    for (int v = 0; v < width; v += 16)
        for (int h = 0; h < hiddens; h++) {
            Floats x = load(hidden[h] + v);
            for (int t = 0; t < targets; t++)
                products[h * TARGETS + t] = fma16(x, load(target[t] + v), products[h * TARGETS + t]);
        }
    Floats logit = sums(products);
    Floats label = {0};
    if (first) label[0] = label[TARGETS] = 1;
    Floats step = (label - splat(1) / (splat(1) + exp16(-logit))) * rate;
    if (loss)
        for (int h = 0; h < hiddens; h++)
            for (int t = 0; t < targets; t++) {
                float x = logit[h * TARGETS + t];
                *loss += softplus(first && t == 0 ? -x : x);
            }
    float steps[16];
    store(steps, step);
    for (int v = 0; v < width; v += 16) {
        Floats x[2], sum[2] = {splat(0), splat(0)};
        for (int h = 0; h < hiddens; h++) x[h] = load(hidden[h] + v);
        for (int t = 0; t < targets; t++) {
            Floats row = load(target[t] + v), moved = row;
            for (int h = 0; h < hiddens; h++) {
                Floats by = splat(steps[h * TARGETS + t]);
                sum[h] = fma16(by, row, sum[h]);
                moved = fma16(by, x[h], moved);
            }
            store(target[t] + v, moved);
        }
        for (int h = 0; h < hiddens; h++) store(change[h] + v, load(change[h] + v) + sum[h]);
    }
}

// Constant counts let the compiler keep all of a block in registers: the usual five negatives have their own.
INLINE void meet_some(const float *const *hidden, float *const *change, int hiddens, float *const *target,
                      int targets, int width, float rate, int first, double *loss) {
    if (hiddens == 2 && targets == 6) meet(hidden, change, 2, target, 6, width, rate, first, loss);
    else if (hiddens == 2 && targets == 8) meet(hidden, change, 2, target, 8, width, rate, first, loss);
    else if (hiddens == 1 && targets == 6) meet(hidden, change, 1, target, 6, width, rate, first, loss);
    else meet(hidden, change, hiddens, target, targets, width, rate, first, loss);
}

// Blocks of targets after the first see hidden rows that the first has moved already, as a step for each would.
INLINE void meet_all(const float *const *hidden, float *const *change, int hiddens, const Places *targets, int width,
                     float rate, double *loss) {
    for (int t = 0; t < targets->count; t += TARGETS) {
        int some = targets->count - t < TARGETS ? targets->count - t : TARGETS;
        meet_some(hidden, change, hiddens, targets->row + t, some, width, rate, t == 0, loss);
    }
}

typedef struct { double loss; int64_t predictions; } Tally;

INLINE void skip_gram_place(const Word2Vec *w, const int32_t *kept, int from, int place, int to, const Places *targets,
                            int counts, Tally *tally) {
    float *rows[2];
    int waiting = 0;
    double *loss = counts ? &tally->loss : NULL;
    for (int at = from; at < to; at++) {
        if (at != place) rows[waiting++] = w->input + (int64_t)kept[at] * w->width;
        if (waiting == 2) {
            meet_all((const float *const *)rows, rows, waiting, targets, w->width, w->rate, loss);
            waiting = 0;
        }
    }
    if (waiting) meet_all((const float *const *)rows, rows, waiting, targets, w->width, w->rate, loss);
    if (counts) tally->predictions += to - from - 1;
}

INLINE void cbow_place(const Word2Vec *w, const int32_t *kept, int from, int place, int to, const Places *targets,
                       int counts, Tally *tally) {
    if (to - from < 2) return;
    float mean[MOST_NUMBERS], change[MOST_NUMBERS];
    float share = 1.0f / (float)(to - from - 1);
    for (int v = 0; v < w->width; v += 16) {
        Floats total = splat(0);
        for (int at = from; at < to; at++)
            if (at != place) total += load(w->input + (int64_t)kept[at] * w->width + v);
        store(mean + v, total * share);
        store(change + v, splat(0));
    }
    const float *hidden[1] = {mean};
    float *changes[1] = {change};
    meet_all(hidden, changes, 1, targets, w->width, w->rate, counts ? &tally->loss : NULL);
    if (counts) tally->predictions++;
    // every word of the window moves by the whole gradient of their mean, as in word2vec's own program
    for (int at = from; at < to; at++) {
        if (at == place) continue;
        float *row = w->input + (int64_t)kept[at] * w->width;
        for (int v = 0; v < w->width; v += 16) store(row + v, load(row + v) + load(change + v));
    }
}

// One sentence, or the part of it that a task has, without the words that subsampling left out.
static void learn_sentence(const Word2Vec *w, const int32_t *kept, int count, uint64_t *random, Tally *tally) {
    Places targets[2];
    if (count < 2) return;
    draw_targets(w, kept[0], random, &targets[0]);
    for (int place = 0; place < count; place++) {
        const Places *now = &targets[place & 1];
        if (place + 1 < count) draw_targets(w, kept[place + 1], random, &targets[(place + 1) & 1]);
        int reach = 1 + (int)((draw(random) >> 32) * (uint64_t)w->window >> 32);
        int from = place - reach < 0 ? 0 : place - reach;
        int to = place + reach + 1 > count ? count : place + reach + 1;
        int counts = place % LOSS_EVERY == 0;
        if (w->cbow) cbow_place(w, kept, from, place, to, now, counts, tally);
        else skip_gram_place(w, kept, from, place, to, now, counts, tally);
    }
}

static void learn_task(const Word2Vec *w, int64_t task, Tally *tally) {
    int32_t kept[WORDS_OF_TASK];
    int64_t at = task * WORDS_OF_TASK, end = at + WORDS_OF_TASK < w->length ? at + WORDS_OF_TASK : w->length;
    uint64_t random = w->seed + (uint64_t)task * 0xd1342543de82ef95u;
    draw(&random);
    int count = 0;
    for (; at < end; at++) {
        int32_t word = w->text[at];
        if (word < 0) {
            learn_sentence(w, kept, count, &random, tally);
            count = 0;
        } else if (w->keep[word] == UINT32_MAX || (uint32_t)(draw(&random) >> 32) < w->keep[word]) kept[count++] = word;
    }
    learn_sentence(w, kept, count, &random, tally);
}

typedef struct { Word2Vec *w; pthread_mutex_t lock; } Word2VecRegion;

static void word2vec_region(Member *me, void *argument) {
    Word2VecRegion *region = argument;
    if (me->thread >= region->w->threads) return;
    Tally tally = {0};
    int tasks = (int)((region->w->length + WORDS_OF_TASK - 1) / WORDS_OF_TASK);
    for (int task; (task = take(me, tasks)) >= 0;) {
        learn_task(region->w, task, &tally);
        // before the phase can end, and with it the region's memory
        pthread_mutex_lock(&region->lock);
        region->w->loss += tally.loss, region->w->predictions += tally.predictions;
        pthread_mutex_unlock(&region->lock);
        tally = (Tally){0};
    }
}

// Goes once over the text; a nonzero result names what is out of bounds.
EXPORT int kun_word2vec(Word2Vec *w) {
    if (w->width % 16 || w->width > MOST_NUMBERS || w->negatives + 1 > MOST_TARGETS || w->window < 1) return 1;
    Word2VecRegion region = {.w = w};
    pthread_mutex_init(&region.lock, NULL);
    w->loss = 0, w->predictions = 0;
    run(word2vec_region, &region);
    pthread_mutex_destroy(&region.lock);
    return 0;
}

// Walker's alias table of a distribution (Vose, 1991): a word is drawn by one number, whatever the vocabulary.
// `left` [words] is memory to work in. The weights [words] are used up.
EXPORT void kun_alias(double *weights, int32_t words, Column *columns, int32_t *left) {
    double total = 0;
    for (int32_t i = 0; i < words; i++) total += weights[i];
    int32_t small = 0, large = words;
    for (int32_t i = 0; i < words; i++) {
        weights[i] *= words / total;
        if (weights[i] < 1) left[small++] = i;
        else left[--large] = i;
    }
    while (small && large < words) {
        int32_t less = left[--small], more = left[large];
        columns[less] = (Column){(uint32_t)(weights[less] * 4294967295.0), more};
        weights[more] -= 1 - weights[less];
        if (weights[more] < 1) large++, left[small++] = more;
    }
    while (small) { int32_t i = left[--small]; columns[i] = (Column){UINT32_MAX, i}; }
    while (large < words) { int32_t i = left[large++]; columns[i] = (Column){UINT32_MAX, i}; }
}
