/* shm leak STEP PERIOD_MS: a shared file in memory grows by STEP bytes each period, and every byte of it stays mapped.
   shm reader STEP PERIOD_MS: a child touches, STEP bytes a period and round and round, 64 MB that its parent filled. */
#include "tick.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define SHARED ((size_t)64 << 20)

static void leak(int file, size_t step, long period)
{
    for (off_t length = 0;; length += (off_t)step) {
        if (ftruncate(file, length + (off_t)step) != 0) {
            perror("ftruncate");
            exit(1);
        }
        char *part = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_SHARED, file, length);
        need(part, "mmap");
        memset(part, 1, step);
        tick(period);
    }
}

static void read_slowly(int file, size_t step, long period)
{
    if (ftruncate(file, (off_t)SHARED) != 0) {
        perror("ftruncate");
        exit(1);
    }
    char *whole = mmap(NULL, SHARED, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    need(whole, "mmap");
    memset(whole, 1, SHARED);
    if (fork() != 0) {
        for (;;)
            pause();
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    volatile char seen;
    for (size_t at = 0;; at = (at + step) % SHARED) {
        for (size_t offset = 0; offset < step; offset += 4096)
            seen = whole[at + offset];
        tick(period);
    }
    (void)seen;
}

int main(int argc, char **argv)
{
    size_t step = (size_t)number(argc, argv, 2);
    long period = number(argc, argv, 3);
    int file = memfd_create("shared", 0);
    if (file < 0) {
        perror("memfd_create");
        return 1;
    }
    if (strcmp(argv[1], "leak") == 0)
        leak(file, step, period);
    read_slowly(file, step, period);
}
