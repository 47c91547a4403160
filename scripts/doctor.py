"""What this machine and this run lack, and what earlier runs left damaged. Also by hand: python scripts/doctor.py [config]."""

import contextlib
import functools
import sys
from pathlib import Path

from eightfold.config.plan import Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError
from eightfold.core.runtime import job
from eightfold.upkeep import doctor

if "snakemake" in globals():
    around, config = job(snakemake), snakemake.params.settings["config"]
else:
    around, path = contextlib.nullcontext(), Path(sys.argv[1] if len(sys.argv) > 1 else "config.yaml")
    try:
        config = resolve(check_yaml_file(path), str(path))
    except UserError as error:
        sys.exit(doctor.lines_of(doctor.Finding("config", doctor.BAD, str(error))))
with around:
    if not doctor.report(doctor.examine(Plan(config)), functools.partial(print, flush=True)):
        sys.exit(1)
