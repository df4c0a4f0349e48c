"""Lists and strings made and dropped, and perhaps one kept for good: python3 lists.py KEPT_BYTES PERIOD_S"""

import random
import sys

from beat import beat

kept_bytes, period = int(sys.argv[1]), float(sys.argv[2])
random.seed(3)
slots, kept = [None] * 200, []
for _ in beat(period):
    for _ in range(3):
        slots[random.randrange(200)] = ["x" * random.randrange(10, 400) for _ in range(random.randrange(1, 60))]
    if kept_bytes:
        kept.append(bytes(kept_bytes))
