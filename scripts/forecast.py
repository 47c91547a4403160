"""What a run will cost: `snakemake TARGET --summary | python scripts/forecast.py [config.yaml ...]`, as `make plan` does."""

import sys
from pathlib import Path

from eightfold.config.plan import Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError
from eightfold.upkeep.forecast import first_outputs, planned, table

RULES = Path(__file__).resolve().parents[1] / "rules"

if __name__ == "__main__":
    files = sys.argv[1:] or ["config.yaml"]
    config: dict = {}
    try:
        for file in files:
            config |= check_yaml_file(file)
        if jobs := planned(sys.stdin, first_outputs(RULES)):
            print(table(Plan(resolve(config, ", ".join(files))), jobs, Path("results")))
        else:
            print("nothing to do")
    except UserError as error:
        sys.exit(f"Error: {error}")
