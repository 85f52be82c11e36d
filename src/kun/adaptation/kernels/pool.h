// A small pool of threads. A region runs one function on all of them; inside it they take tasks and wait for each other.
#pragma once
#include <pthread.h>
#include <sched.h>
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

enum { MAX_THREADS = 64, SPINS_BEFORE_YIELD = 2000, SPINS_BEFORE_SLEEP = 4000 };

// The threads of one region: `next` is the next task of the current phase.
typedef struct {
    _Atomic int arrived, phase;
    char apart[64];
    _Atomic int next;
    int threads;
} Team;

typedef void (*Region)(Team *team, int thread, void *argument);

// Tasks are handed out one by one, so that a thread that the system interrupts does not hold up the others.
INLINE int take(Team *team) { return atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed); }

// The end of a phase: all that any thread wrote before is seen by all after.
static void meet(Team *team) {
    int phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->threads - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; spins++) {
        if (spins < SPINS_BEFORE_YIELD) RELAX();
        else sched_yield();
    }
}

static struct {
    pthread_mutex_t owner;  // held by the caller whose region runs
    pthread_mutex_t sleep;  // guards the condition
    pthread_cond_t wake;
    _Atomic unsigned epoch;
    _Atomic int sleeping, working;
    int threads;  // the caller included; 0: not started
    Region region;
    Team *team;
    void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static unsigned await_epoch(unsigned seen) {
    for (int spins = 0; spins < SPINS_BEFORE_SLEEP; spins++) {
        if (atomic_load_explicit(&pool.epoch, memory_order_acquire) != seen) return atomic_load(&pool.epoch);
        RELAX();
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleeping, 1);
    while (atomic_load(&pool.epoch) == seen) pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.sleeping, 1);
    pthread_mutex_unlock(&pool.sleep);
    return atomic_load(&pool.epoch);
}

static void *work(void *argument) {
    int thread = (int)(intptr_t)argument;
    unsigned epoch = 0;
    for (;;) {
        epoch = await_epoch(epoch);
        pool.region(pool.team, thread, pool.argument);
        atomic_fetch_sub_explicit(&pool.working, 1, memory_order_release);
    }
    return NULL;
}

// A forked child has none of the parent's threads: it starts its own.
static void after_fork(void) {
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.epoch, 0);
    atomic_store(&pool.sleeping, 0);
    atomic_store(&pool.working, 0);
    pool.threads = 0;
}

static _Atomic int wanted_threads = 1;

static void start(void) {
    static int registered;
    if (!registered) registered = 1, pthread_atfork(NULL, NULL, after_fork);
    pool.threads = 1;
    for (int wanted = atomic_load(&wanted_threads); pool.threads < wanted; pool.threads++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(intptr_t)pool.threads)) break;
        pthread_detach(thread);
    }
}

// How many threads the pool will have; without effect once it has run.
EXPORT void kun_threads(int threads) {
    atomic_store(&wanted_threads, threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads);
}

// Runs a region on all threads, or on this one alone where another caller has the pool.
static void run(Region region, void *argument) {
    Team team = {.threads = 1};
    if (pthread_mutex_trylock(&pool.owner)) {
        region(&team, 0, argument);
        return;
    }
    if (!pool.threads) start();
    team.threads = pool.threads;
    pool.region = region, pool.team = &team, pool.argument = argument;
    atomic_store(&pool.working, pool.threads - 1);
    atomic_fetch_add(&pool.epoch, 1);
    if (atomic_load(&pool.sleeping)) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.sleep);
    }
    region(&team, 0, argument);
    for (int spins = 0; atomic_load_explicit(&pool.working, memory_order_acquire); spins++) {
        if (spins < SPINS_BEFORE_YIELD) RELAX();
        else sched_yield();
    }
    pthread_mutex_unlock(&pool.owner);
}
