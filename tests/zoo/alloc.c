/* alloc LEAK PERIOD_MS SLOTS LARGEST: each period malloc LEAK bytes and forget them; beside it four slots of SLOTS are
   freed and filled anew, with up to LARGEST bytes each: the heap's noise. Either may be 0. */
#include "tick.h"

int main(int argc, char **argv)
{
    long leak = number(argc, argv, 1), period = number(argc, argv, 2);
    long slots = number(argc, argv, 3), largest = number(argc, argv, 4);
    char **held = calloc((size_t)slots + 1, sizeof *held);
    need(held, "calloc");
    for (;;) {
        if (leak > 0) {
            char *forgotten = malloc((size_t)leak);
            need(forgotten, "malloc");
            memset(forgotten, 1, (size_t)leak);
        }
        for (int turn = 0; slots > 0 && turn < 4; turn++) {
            uint64_t slot = chance((uint64_t)slots);
            size_t size = 16 + chance((uint64_t)largest);
            free(held[slot]);
            held[slot] = malloc(size);
            need(held[slot], "malloc");
            memset(held[slot], 2, size);
        }
        tick(period);
    }
}
