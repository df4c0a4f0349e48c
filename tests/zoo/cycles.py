"""Objects that refer to each other and are dropped: only the cycle collector frees them: python3 cycles.py PERIOD_S"""

import sys

from beat import beat


class Node:
    def __init__(self, size):
        self.content = bytearray(size)
        self.me = self


for turn in enumerate(beat(float(sys.argv[1]))):
    for _ in range(20):
        Node(2000)
