"""Loads tables for a while, quickly at first and slower towards the end, then serves from them:
python3 warmup.py MEGABYTES SECONDS"""

import random
import sys

from beat import beat

megabytes, seconds = float(sys.argv[1]), float(sys.argv[2])
random.seed(9)
tables, loaded, total, ticks = [], 0, megabytes * 1e6, 0
for _ in beat(0.25):
    ticks += 1
    due = total * (1 - (1 - min(1.0, ticks * 0.25 / seconds)) ** 2)
    while loaded < due:
        tables.append(bytes(8000))
        loaded += 8000
    sum(len(random.choice(tables)) for _ in range(20))
