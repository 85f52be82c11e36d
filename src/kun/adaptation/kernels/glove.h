// GloVe's steps (Pennington et al., 2014): each entry of the counts pulls a word's row and a context's row by AdaGrad
// (Duchi et al., 2011), by threads that write without locks.
//
// A word's row is [vector, bias, 1, zeros], a context's [vector, 1, bias, zeros]: their product has both biases in it.
#pragma once
#include "vectors.h"

enum { ENTRIES_OF_TASK = 4096, GLOVE_CLIP = 100 };

typedef struct {
    const int32_t *rows, *columns;
    const float *counts;
    float *words, *contexts, *word_squares, *context_squares;  // rows of `width` floats
    int64_t entries;
    int32_t dimensions, width, threads;
    float rate, most, power;
    double loss;  // out: the sum of the weighted squares
} Glove;

INLINE float glove_weight(const Glove *g, float count) {
    return count < g->most ? powf(count / g->most, g->power) : 1.0f;
}

INLINE Floats adagrad(Floats gradient, float *squares, float rate) {
    Floats before = load(squares), root = before;
    for (int i = 0; i < 16; i++) root[i] = __builtin_sqrtf(before[i]);
    store(squares, fma16(gradient, gradient, before));
    return gradient * rate / root;
}

static double learn_entry(const Glove *g, int64_t entry) {
    int64_t row = (int64_t)g->rows[entry] * g->width, column = (int64_t)g->columns[entry] * g->width;
    float *word = g->words + row, *context = g->contexts + column;
    Floats product = splat(0);
    for (int v = 0; v < g->width; v += 16) product = fma16(load(word + v), load(context + v), product);
    float off = sum(product) - logf(g->counts[entry]), weight = glove_weight(g, g->counts[entry]);
    Floats pull = splat(weight * off);
    for (int v = 0; v < g->width; v += 16) {
        Floats w = load(word + v), c = load(context + v);
        Floats of_word = clamp16(pull * c, -GLOVE_CLIP, GLOVE_CLIP);
        Floats of_context = clamp16(pull * w, -GLOVE_CLIP, GLOVE_CLIP);
        store(word + v, w - adagrad(of_word, g->word_squares + row + v, g->rate));
        store(context + v, c - adagrad(of_context, g->context_squares + column + v, g->rate));
    }
    word[g->dimensions + 1] = 1;
    context[g->dimensions] = 1;
    return (double)weight * off * off;
}

typedef struct { Glove *g; pthread_mutex_t lock; } GloveRegion;

static void glove_region(Member *me, void *argument) {
    GloveRegion *region = argument;
    if (me->thread >= region->g->threads) return;
    int tasks = (int)((region->g->entries + ENTRIES_OF_TASK - 1) / ENTRIES_OF_TASK);
    for (int task; (task = take(me, tasks)) >= 0;) {
        int64_t entry = (int64_t)task * ENTRIES_OF_TASK, end = entry + ENTRIES_OF_TASK;
        double loss = 0;
        for (end = end < region->g->entries ? end : region->g->entries; entry < end; entry++)
            loss += learn_entry(region->g, entry);
        pthread_mutex_lock(&region->lock);
        region->g->loss += loss;
        pthread_mutex_unlock(&region->lock);
    }
}

// Goes once over the entries; a nonzero result names what is out of bounds.
EXPORT int kun_glove(Glove *g) {
    if (g->width % 16 || g->width < g->dimensions + 2) return 1;
    GloveRegion region = {.g = g};
    pthread_mutex_init(&region.lock, NULL);
    g->loss = 0;
    run(glove_region, &region);
    pthread_mutex_destroy(&region.lock);
    return 0;
}
