"""A cache with a limit: python3 lru.py ENTRIES PERIOD_S"""

import functools
import random
import sys

from beat import beat

entries, period = int(sys.argv[1]), float(sys.argv[2])
random.seed(5)


@functools.lru_cache(maxsize=entries)
def page(number):
    return bytes(random.randrange(500, 6000))


for _ in beat(period):
    for _ in range(10):
        page(random.randrange(entries * 4))
