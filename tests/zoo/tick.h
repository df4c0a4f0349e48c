/* A beat that does not drift: a late tick is followed by a short one, so that a rate holds on a busy machine. */
#ifndef TICK_H
#define TICK_H
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline void tick(long ms)
{
    static struct timespec next;
    if (next.tv_sec == 0)
        clock_gettime(CLOCK_MONOTONIC, &next);
    next.tv_nsec += ms * 1000000L;
    next.tv_sec += next.tv_nsec / 1000000000L;
    next.tv_nsec %= 1000000000L;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
        ;
}

/* The same numbers in every run. */
static inline uint64_t chance(uint64_t below)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static inline void need(const void *memory, const char *what)
{
    if (memory == NULL || memory == (void *)-1) {
        perror(what);
        exit(1);
    }
}

/* The number in argument `index`. */
static inline long number(int argc, char **argv, int index)
{
    if (index >= argc) {
        fprintf(stderr, "%s: argument %d is missing: see the comment at the top of its source\n", argv[0], index);
        exit(2);
    }
    return atol(argv[index]);
}
#endif
