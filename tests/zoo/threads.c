/* threads leak BYTES PERIOD_MS: a thread more each period, which never ends, on a stack of BYTES that is touched whole.
   threads pool BYTES PERIOD_MS: eight threads at a time, each ending after eight periods. */
#include "tick.h"
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static void *never_ends(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *ends(void *period)
{
    char work[16384];
    memset(work, 1, sizeof work);
    struct timespec span = {0, *(long *)period * 8000000L};
    span.tv_sec = span.tv_nsec / 1000000000L;
    span.tv_nsec %= 1000000000L;
    nanosleep(&span, NULL);
    return work[100] == 1 ? NULL : period;
}

int main(int argc, char **argv)
{
    int leak = argc > 1 && strcmp(argv[1], "leak") == 0;
    size_t bytes = (size_t)number(argc, argv, 2);
    static long period;
    period = number(argc, argv, 3);
    for (;;) {
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        if (leak) {
            void *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
            need(stack, "mmap");
            memset(stack, 1, bytes);
            pthread_attr_setstack(&attributes, stack, bytes);
        } else {
            pthread_attr_setstacksize(&attributes, bytes);
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        }
        if (pthread_create(&thread, &attributes, leak ? never_ends : ends, &period) != 0) {
            perror("pthread_create");
            return 1;
        }
        pthread_attr_destroy(&attributes);
        tick(period);
    }
}
