/* maps LEAK PERIOD_MS LARGEST: each period one of 16 mappings of up to LARGEST bytes is unmapped and replaced, touched
   whole; LEAK bytes more are mapped, touched and never unmapped. */
#include "tick.h"
#include <sys/mman.h>

static char *mapped(size_t length)
{
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(memory, "mmap");
    memset(memory, 1, length);
    return memory;
}

int main(int argc, char **argv)
{
    long leak = number(argc, argv, 1), period = number(argc, argv, 2), largest = number(argc, argv, 3);
    struct { char *memory; size_t length; } held[16] = {0};
    for (;;) {
        uint64_t slot = chance(16);
        if (held[slot].memory != NULL)
            munmap(held[slot].memory, held[slot].length);
        held[slot].length = 4096 + chance((uint64_t)largest);
        held[slot].memory = mapped(held[slot].length);
        if (leak > 0)
            mapped((size_t)leak);
        tick(period);
    }
}
