// The compiled kernels of Kun, one translation unit: `adaptation/native.py` builds it with the system's C compiler.
#include "pool.h"
#include "vectors.h"
#include "dot.h"
#include "linear.h"
#include "pack.h"
#include "attention.h"
#include "decoder.h"
#include "program.h"

// The instruction set that this build multiplies with, for `kun doctor`.
EXPORT const char *kun_instructions(void) { return INSTRUCTIONS; }
