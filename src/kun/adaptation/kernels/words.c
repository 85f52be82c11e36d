// The compiled kernels of word vectors, a library of their own: `adaptation/native_words.py` builds it.
#include "pool.h"
#include "vectors.h"
#include "word2vec.h"
#include "glove.h"
