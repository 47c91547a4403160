"""Before a run of `make`: release the lock that a killed one left, or say what to do. Run by hand: python scripts/unlock.py."""

import sys

from eightfold.upkeep.lock import release_dead

if __name__ == "__main__":
    if message := release_dead():
        print(message, file=sys.stderr)
