"""Runs as a user: exchanges a directory of the user's and a symlink for one another, all the time, until killed."""

import os
import sys
import time

place, target = sys.argv[1:]
"""``place`` holds ``real``; ``place/swap`` is that directory, or a symlink to ``target``, in turns."""
os.chdir(place)
os.symlink(target, "link")
os.rename("real", "swap")
print("ready", flush=True)
while True:
    os.rename("swap", "real")
    os.rename("link", "swap")
    time.sleep(0.0002)
    os.rename("swap", "link")
    os.rename("real", "swap")
    time.sleep(0.0002)
