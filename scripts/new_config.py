"""Start a config by looking at the data.

Run by hand: python scripts/new_config.py NAME DATA [FILE [QUALITY [HOURS]]]. DATA is a folder or the table of labels in it;
FILE is where the config goes ('': configs/NAME.yaml); QUALITY is quick, good or best, or '' with HOURS, the time that the
run may take. On a terminal it shows the config and asks before it writes; elsewhere it just does.
"""

import os
import sys
from pathlib import Path

from eightfold.config.new_config import Machine, write_config
from eightfold.config.plan import CACHE, Plan
from eightfold.config.quality import read_budget
from eightfold.config.resolve import resolve
from eightfold.core.files import UserError
from eightfold.upkeep.forecast import forecaster
from eightfold.upkeep.rates import Rates, timer

if len(sys.argv) not in range(3, 7):
    sys.exit(__doc__)
name, data, file, quality, hours = [*sys.argv[1:], "", "", ""][:5]
try:
    budget = read_budget(quality, hours)
    plan, cores = Plan(resolve({"data": {"source": "demo"}})), os.cpu_count() or 1  # for the device alone
    timed = timer(plan.config["device"], plan.threads(cores), Path(CACHE, "speed"), print)
    machine = Machine(plan.devices > 0, forecaster(Rates(Path("results"), timed), cores))
    print(write_config(name, data, file or None, budget, machine, ask=input if sys.stdin.isatty() else None))
except UserError as error:
    sys.exit(f"Error: {error}")
except (EOFError, KeyboardInterrupt):
    sys.exit("\nNothing was written.")
