"""A cache that forgets nothing: python3 dict_leak.py BYTES PERIOD_S"""

import sys

from beat import beat

size, period = int(sys.argv[1]), float(sys.argv[2])
cache = {}
for _ in beat(period):
    cache[len(cache)] = bytes(size)
