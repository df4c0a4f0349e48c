/* grow STEP PERIOD_MS CAP: a buffer is made STEP bytes longer each period by realloc and the new part written, up to CAP
   bytes (0: without end); after that it is rewritten a step at a time. */
#include "tick.h"

int main(int argc, char **argv)
{
    size_t step = (size_t)number(argc, argv, 1), cap = (size_t)number(argc, argv, 3), length = 0;
    long period = number(argc, argv, 2);
    char *buffer = NULL;
    for (;;) {
        if (cap == 0 || length + step <= cap) {
            buffer = realloc(buffer, length + step);
            need(buffer, "realloc");
            memset(buffer + length, 1, step);
            length += step;
        } else {
            memset(buffer + chance(length - step), 2, step);
        }
        tick(period);
    }
}
