"""A beat that does not drift: a late tick is followed by a short one, so that a rate holds on a busy machine."""

import time


def beat(period_s):
    due = time.monotonic()
    while True:
        yield
        due += period_s
        time.sleep(max(0.0, due - time.monotonic()))
