"""Jobs on one machine wait for a GPU before they start, without an option that says how many there are."""

import os
import subprocess
import sys

import pytest

from eightfold.core.provenance import SCRIPTS

pytestmark = pytest.mark.slow
CHANGED = "What Snakemake does not document has changed: see module scripts/eightfold/upkeep/gpu_limit.py"
# A job fails where another one works at the same time.
SNAKEFILE = """
from eightfold.upkeep.gpu_limit import limit_gpus

limit_gpus(workflow, 1)

rule all:
    input: [f"{number}.txt" for number in range(3)]

rule one:
    output: "{number}.txt"
    resources: gpu=1
    shell: "mkdir working; sleep 0.5; rmdir working; echo > {output}"
"""


def run(folder, *options: str) -> subprocess.CompletedProcess:
    (folder / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "3", *options]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_one_gpu_is_one_jobs_at_a_time(tmp_path):
    ran = run(tmp_path)
    assert ran.returncode == 0, f"{CHANGED}\n{ran.stderr}"


def test_what_the_command_says_of_gpus_holds(tmp_path):
    ran = run(tmp_path, "--resources", "gpu=3")
    assert ran.returncode and "File exists" in ran.stderr, f"{CHANGED}\n{ran.stderr}"
