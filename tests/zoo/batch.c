/* batch BLOCK PERIOD_MS BLOCKS: allocates BLOCKS blocks, one a period, then frees them all and begins again. */
#include "tick.h"

int main(int argc, char **argv)
{
    size_t block = (size_t)number(argc, argv, 1);
    long period = number(argc, argv, 2), blocks = number(argc, argv, 3);
    char **held = calloc((size_t)blocks, sizeof *held);
    need(held, "calloc");
    for (;;) {
        for (long i = 0; i < blocks; i++) {
            held[i] = malloc(block);
            need(held[i], "malloc");
            memset(held[i], 1, block);
            tick(period);
        }
        for (long i = 0; i < blocks; i++)
            free(held[i]);
    }
}
