/* scan FILE BYTES STEP PERIOD_MS: makes FILE with BYTES bytes, then maps it, reads it through STEP bytes a period, unmaps
   it and begins again: pages of files, which the kernel can take back. */
#include "tick.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    size_t bytes = (size_t)number(argc, argv, 2), step = (size_t)number(argc, argv, 3);
    long period = number(argc, argv, 4);
    static char block[65536];
    int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0) {
        perror(argv[1]);
        return 1;
    }
    memset(block, 7, sizeof block);
    for (size_t at = 0; at < bytes; at += sizeof block) {
        if (write(file, block, sizeof block) != (ssize_t)sizeof block) {
            perror(argv[1]);
            return 1;
        }
    }
    for (;;) {
        volatile const char *mapping = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
        need((const void *)mapping, "mmap");
        long sum = 0;
        for (size_t at = 0; at < bytes; at += 4096) {
            sum += mapping[at];
            if (at % step == 0)
                tick(period);
        }
        munmap((void *)mapping, bytes);
    }
}
