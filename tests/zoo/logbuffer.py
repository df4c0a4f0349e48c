"""Log lines are gathered: flushed at a megabyte, or never: python3 logbuffer.py flush|keep LINES_PER_S"""

import sys

from beat import beat

keep, rate = sys.argv[1] == "keep", int(sys.argv[2])
lines, gathered = [], 0
with open("/dev/null", "w") as log:
    for _ in beat(0.1):
        for _ in range(rate // 10):
            lines.append("%012d" % len(lines) + "x" * 439)
            gathered += len(lines[-1])
        if not keep and gathered > 1_000_000:
            log.writelines(lines)
            lines, gathered = [], 0
