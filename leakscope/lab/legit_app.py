"""The walkthrough's legitimate application: it sleeps, and its memory stays as it is."""
import time
def idle():
    while True:
        time.sleep(60)
idle()
