/* The loads that `cargo xtask bench costs` measures under. Each prints "ready" or one figure, and ends with its parent.
 *
 *   load processes IDLE ACTIVE   that many that sleep, and that many that take and give back memory ten times a second
 *   load faults PAGES            touches so many fresh pages; CPU nanoseconds for each
 *   load syscalls CALLS          getppid so often; CPU nanoseconds for each
 *   load allocations SECONDS     for each line on standard input: malloc and free for so long; CPU nanoseconds for both
 *
 * CPU time, not time on the wall: what other programs of the host take is not in it, what a tracepoint takes is. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096L
#define REGION_PAGES 4096L

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static char *fresh(long pages) {
    char *at = mmap(NULL, (size_t)(pages * PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    madvise(at, (size_t)(pages * PAGE), MADV_NOHUGEPAGE);
    return at;
}

static void touch(char *at, long pages) {
    for (long page = 0; page < pages; page++)
        *(volatile char *)(at + page * PAGE) = 1;
}

static void be_active(void) {
    struct timespec pause = {0, 100 * 1000 * 1000};
    for (;;) {
        char *at = fresh(32);
        touch(at, 32);
        nanosleep(&pause, NULL);
        munmap(at, 32 * PAGE);
    }
}

static int processes(long idle, long active) {
    pid_t parent = getpid();
    for (long n = 0; n < idle + active; n++) {
        pid_t child = fork();
        if (child < 0) {
            fprintf(stderr, "fork of number %ld: ", n + 1);
            perror("");
            return 1;
        }
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(0);
            if (n >= idle)
                be_active();
            for (;;)
                pause();
        }
    }
    puts("ready");
    fflush(stdout);
    /* Until whoever started it lets go of the pipe. */
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}

static void faults(long pages) {
    double spent = 0;
    long done = 0;
    for (; done < pages; done += REGION_PAGES) {
        char *at = fresh(REGION_PAGES);
        double before = cpu_ns();
        touch(at, REGION_PAGES);
        spent += cpu_ns() - before;
        munmap(at, REGION_PAGES * PAGE);
    }
    printf("%.2f\n", spent / (double)done);
}

static void syscalls(long calls) {
    double before = cpu_ns();
    for (long n = 0; n < calls; n++)
        syscall(SYS_getppid);
    printf("%.3f\n", (cpu_ns() - before) / (double)calls);
}

static void allocations(double seconds) {
    char line[8];
    while (fgets(line, sizeof line, stdin)) {
        double before = cpu_ns(), spent = 0;
        long pairs = 0;
        while (spent < 1e9 * seconds) {
            for (long n = 0; n < 1000; n++, pairs++) {
                void *volatile at = malloc(64 + (size_t)(n & 511));
                free(at);
            }
            spent = cpu_ns() - before;
        }
        printf("%.3f\n", spent / (double)pairs);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[1] : "";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(what, "processes") == 0 && argc == 4)
        return processes(atol(argv[2]), atol(argv[3]));
    if (strcmp(what, "faults") == 0)
        faults(atol(argv[2]));
    else if (strcmp(what, "syscalls") == 0)
        syscalls(atol(argv[2]));
    else if (strcmp(what, "allocations") == 0)
        allocations(atof(argv[2]));
    else
        return 2;
    return 0;
}
