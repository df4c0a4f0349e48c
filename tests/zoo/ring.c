/* ring BYTES STEP PERIOD_MS: a ring of BYTES is written round and round, STEP bytes a period: it grows in a straight line
   until the first round is done, and not after. */
#include "tick.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
    long bytes = number(argc, argv, 1), step = number(argc, argv, 2), period = number(argc, argv, 3);
    char *ring = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(ring, "mmap");
    for (long at = 0;; at = (at + step) % bytes) {
        long room = bytes - at;
        memset(ring + at, (int)chance(255), (size_t)(step < room ? step : room));
        tick(period);
    }
}
