// A small pool of threads. A region runs one function on all of them, a row of phases; each phase is a loop over tasks.
//
// A phase is over when all its tasks are done, not when all threads have come: one that the system keeps from running
// is not waited for, unless it sits on a task, and skips what went on without it. Whoever waits for long lets go of its
// processor, so that the system can run the other there.
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

enum { MAX_THREADS = 64, SPINS_BEFORE_SLEEP = 2000, KEPT_BYTES = 64 << 20, OPEN = 1 << 30 };

// What the threads of one region share: the number of the current phase and of its next task, in one word.
typedef struct {
    _Atomic uint64_t place;  // phase << 32 | task
    _Atomic int done;        // tasks of this phase
} Team;

// One thread in a region. Between phases all threads run the same code, and none of it may write what others read.
typedef struct {
    Team *team;
    uint32_t phase;
    int thread, threads, taken;
} Member;

typedef void (*Region)(Member *me, void *argument);

static struct {
    pthread_mutex_t owner;  // held by the caller whose region runs
    pthread_mutex_t sleep;  // guards the conditions
    pthread_cond_t wake, moved;
    _Atomic unsigned epoch;  // of the latest region
    _Atomic int idle, waiting;
    _Atomic int inside;  // OPEN while threads may still come into the region, plus how many are in it
    int threads;  // the caller included; 0: not started
    Region region;
    Team *team;
    void *argument;
} pool = {
    .owner = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER,
};

// Waits until `going` is false: spins for some tens of microseconds, then sleeps, counted in `sleepers`.
#define WAIT_WHILE(going, condition, sleepers)                                          \
    do {                                                                                \
        int spins = 0;                                                                  \
        while ((going) && spins++ < SPINS_BEFORE_SLEEP) RELAX();                        \
        if (!(going)) break;                                                            \
        pthread_mutex_lock(&pool.sleep);                                                \
        atomic_fetch_add(sleepers, 1);                                                  \
        while (going) pthread_cond_wait(condition, &pool.sleep);                        \
        atomic_fetch_sub(sleepers, 1);                                                  \
        pthread_mutex_unlock(&pool.sleep);                                              \
    } while (0)

// After a change that sleepers wait for; both sides are sequentially consistent, so that none is missed.
static void rouse(pthread_cond_t *condition, _Atomic int *sleepers) {
    if (!atomic_load(sleepers)) return;
    pthread_mutex_lock(&pool.sleep);
    pthread_cond_broadcast(condition);
    pthread_mutex_unlock(&pool.sleep);
}

INLINE uint32_t phase_of(uint64_t place) { return (uint32_t)(place >> 32); }

// Reports the tasks that this thread has done; all that any thread wrote in the phase is seen by all after it.
static void end_phase(Member *me, int tasks) {
    Team *team = me->team;
    if (me->taken && atomic_fetch_add(&team->done, me->taken) + me->taken == tasks) {
        atomic_store(&team->done, 0);
        atomic_store(&team->place, (uint64_t)(me->phase + 1) << 32);
        rouse(&pool.moved, &pool.waiting);
    } else WAIT_WHILE(phase_of(atomic_load(&team->place)) == me->phase, &pool.moved, &pool.waiting);
    me->taken = 0;
    me->phase++;
}

// The next task of the phase, or -1 when all are done. Every thread must ask until it is told so, for the same number.
static inline int take(Member *me, int tasks) {
    if (tasks <= 0) return -1;
    uint64_t place = atomic_load(&me->team->place);
    while (phase_of(place) == me->phase && (int)(uint32_t)place < tasks)
        if (atomic_compare_exchange_weak(&me->team->place, &place, place + 1)) {
            me->taken++;
            return (int)(uint32_t)place;
        }
    end_phase(me, tasks);
    return -1;
}

static int come_in(void) {
    int inside = atomic_load(&pool.inside);
    while (inside & OPEN)
        if (atomic_compare_exchange_weak(&pool.inside, &inside, inside + 1)) return 1;
    return 0;
}

static void *work(void *argument) {
    int thread = (int)(intptr_t)argument;
    for (unsigned seen = 0;;) {
        WAIT_WHILE(atomic_load(&pool.epoch) == seen, &pool.wake, &pool.idle);
        int in = come_in();
        seen = atomic_load(&pool.epoch);
        if (!in) continue;
        Member me = {.team = pool.team, .thread = thread, .threads = pool.threads};
        pool.region(&me, pool.argument);
        atomic_fetch_sub(&pool.inside, 1);
        rouse(&pool.moved, &pool.waiting);
    }
    return NULL;
}

// A forked child has none of the parent's threads: it starts its own.
static void after_fork(void) {
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.moved, NULL);
    atomic_store(&pool.epoch, 0);
    atomic_store(&pool.idle, 0);
    atomic_store(&pool.waiting, 0);
    atomic_store(&pool.inside, 0);
    pool.threads = 0;
}

static _Atomic int wanted_threads = 1;

static void start(void) {
    static int registered;
    if (!registered) registered = 1, pthread_atfork(NULL, NULL, after_fork);
    if (!pool.threads) pool.threads = 1;
    for (int wanted = atomic_load(&wanted_threads); pool.threads < wanted; pool.threads++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(intptr_t)pool.threads)) break;
        pthread_detach(thread);
    }
}

// How many threads the pool will have at least from the next run on; those it has stay.
EXPORT void kun_threads(int threads) {
    atomic_store(&wanted_threads, threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads);
}

// Runs a region on all threads, or on this one alone where another caller has the pool.
static void run(Region region, void *argument) {
    Team team = {0};
    Member me = {.team = &team, .threads = 1};
    if (pthread_mutex_trylock(&pool.owner)) {
        region(&me, argument);
        return;
    }
    if (pool.threads < atomic_load(&wanted_threads)) start();
    me.threads = pool.threads;
    pool.region = region, pool.team = &team, pool.argument = argument;
    atomic_store(&pool.inside, OPEN);
    atomic_fetch_add(&pool.epoch, 1);
    rouse(&pool.wake, &pool.idle);
    region(&me, argument);
    atomic_fetch_sub(&pool.inside, OPEN);
    WAIT_WHILE(atomic_load(&pool.inside), &pool.moved, &pool.waiting);
    pthread_mutex_unlock(&pool.owner);
}

// Memory that one call after the other works in: asked for anew each time, its pages would be cleared each time.
typedef struct { size_t bytes; char apart[56]; } Kept;
static _Atomic(Kept *) kept;

static void *borrow(size_t bytes) {
    Kept *memory = atomic_exchange(&kept, NULL);
    if (memory && memory->bytes >= bytes) return memory + 1;
    free(memory);
    bytes = (bytes + 63) & ~(size_t)63;
    memory = aligned_alloc(64, sizeof(Kept) + bytes);
    if (!memory) return NULL;
    memory->bytes = bytes;
    return memory + 1;
}

static void give_back(void *memory) {
    Kept *given = (Kept *)memory - 1;
    free(given->bytes > KEPT_BYTES ? given : atomic_exchange(&kept, given));
}
