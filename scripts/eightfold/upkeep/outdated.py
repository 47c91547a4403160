"""Are finished results still those of the config, the code and the data? Snakemake is asked, by a dry run."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from eightfold.config.plan import Plan
from eightfold.core.files import UserError

HOME = Path(__file__).resolve().parents[3]


def jobs_to_do_again(plan: Plan) -> dict[str, int]:
    """{rule: jobs} that a finished run would do again, the target left out; empty where none, or where none has finished.

    Raises UserError with Snakemake's last words where it cannot say.
    """
    target = "submission" if plan.has_test else "evaluate"
    if not Path(plan.run, "submission.csv" if plan.has_test else "metrics.json").is_file():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(yaml.safe_dump(plan.config), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", target, "--dry-run", "--cores", "1", "--quiet", "host"]
        command += ["--snakefile", str(HOME / "Snakefile"), "--workflow-profile", str(HOME / "profiles" / "default")]
        done = subprocess.run([*command, "--configfile", str(config)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"`snakemake {target} --dry-run` fails: {done.stderr.strip().splitlines()[-1:]}")
    return jobs_of_table(done.stdout + done.stderr, target)


def jobs_of_table(output: str, target: str) -> dict[str, int]:
    """{rule: jobs} of the table that a dry run prints, without the target and the total; empty where there is no table."""
    table = output.rpartition("Job stats:\n")[2].partition("\n\n")[0]
    found = {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    return {name: number for name, number in found.items() if name not in ("total", target)}
