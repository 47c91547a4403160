"""What this machine and this run lack, and what earlier runs left damaged. Also by hand: python scripts/doctor.py [config]."""

import contextlib
import sys
from pathlib import Path

from eightfold.config.plan import Plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError
from eightfold.core.runtime import job
from eightfold.upkeep import doctor

if "snakemake" in globals():
    around, config = job(snakemake.log[0], snakemake.threads), snakemake.params.settings["config"]
else:
    around, path = contextlib.nullcontext(), Path(sys.argv[1] if len(sys.argv) > 1 else "config.yaml")
    try:
        config = resolve(check_yaml_file(path), str(path))
    except UserError as error:
        sys.exit(f" BAD  config    {error}")
with around:
    findings = []
    for finding in doctor.examine(Plan(config)):
        findings.append(finding)
        print(doctor.page([finding]).partition("\n\n")[0], flush=True)
    bad = any(finding.state == doctor.BAD for finding in findings)
    print(f"\n{doctor.page(findings).rpartition(chr(10))[2]}", flush=True)
    if bad:
        sys.exit(1)
