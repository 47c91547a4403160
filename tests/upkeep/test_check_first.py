"""What checks a job runs before what costs hours, though none of its files is an input of that."""

import os
import subprocess
import sys

import pytest

from eightfold.core.provenance import SCRIPTS

pytestmark = pytest.mark.slow
CHANGED = "What Snakemake does not document has changed: see module scripts/eightfold/upkeep/check_first.py"
# A job that costs hours fails where it begins before the check has ended.
SNAKEFILE = """
from eightfold.upkeep.check_first import ALL, hold_back

if config.get("held", True):
    hold_back(workflow)

rule all:
    input: "checked.txt", [f"{number}.txt" for number in range(3)]

rule hours:
    output: "{number,[0-9]}.txt"
    resources: held=1
    shell: "test -e checked.txt && echo > {output}"

rule check:
    output: "checked.txt"
    priority: 100
    resources: held=ALL
    shell: "sleep 2; echo > {output}"
"""


@pytest.mark.parametrize("scheduler", ["greedy", "ilp"])
def test_the_check_ends_before_the_others_begin(tmp_path, scheduler):
    assert run(tmp_path, "--scheduler", scheduler).returncode == 0, CHANGED


def test_without_it_they_begin_at_once(tmp_path):
    assert run(tmp_path, "--config", "held=").returncode != 0


def run(folder, *options: str) -> subprocess.CompletedProcess:
    (folder / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "4", *options]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
