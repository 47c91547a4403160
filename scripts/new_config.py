"""Start a config by looking at the data.

Run by hand: python scripts/new_config.py NAME DATA [FILE]. DATA is a folder or the table of labels in it; FILE is where
the config goes (configs/NAME.yaml). On a terminal it shows the config and asks before it writes; elsewhere it just does.
"""

import sys

from eightfold.config.new_config import write_config
from eightfold.core.files import UserError

if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
try:
    print(write_config(*sys.argv[1:], ask=input if sys.stdin.isatty() else None))
except UserError as error:
    sys.exit(f"Error: {error}")
except (EOFError, KeyboardInterrupt):
    sys.exit("\nNothing was written.")
