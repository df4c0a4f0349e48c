"""The walkthrough's leaking cache service: 10 KB, five times a second, and nothing is ever removed."""
import time
cache = {}
def remember(key):
    cache[key] = "x" * 10240
def serve():
    number = 0
    while True:
        remember(f"entry-{number}")
        number += 1
        time.sleep(0.2)
serve()
