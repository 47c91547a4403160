"""What a run will cost: `snakemake TARGET --summary | python scripts/forecast.py [config.yaml ...]`, as `make plan` does."""

import os
import sys
from pathlib import Path

from eightfold.config.plan import CACHE, Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError
from eightfold.upkeep.forecast import first_outputs, planned, table
from eightfold.upkeep.rates import Rates, timer

RULES = Path(__file__).resolve().parents[1] / "rules"

if __name__ == "__main__":
    files = sys.argv[1:] or ["config.yaml"]
    config: dict = {}
    try:
        for file in files:
            config |= check_yaml_file(file)
        if jobs := planned(sys.stdin, first_outputs(RULES)):
            plan, cores = Plan(resolve(config, ", ".join(files))), os.cpu_count() or 1
            timed = timer(plan.config["device"], plan.threads(cores), Path(CACHE, "speed"), print)
            print(table(plan, jobs, Rates(Path("results"), timed), cores))
        else:
            print("nothing to do")
    except UserError as error:
        sys.exit(f"Error: {error}")
