"""The oldest Snakemake that the Snakefile allows, from the package index, beside the pinned one."""

import re
import subprocess
import sys

import pytest
from pipeline import ROOT, Checkout


def test_the_oldest_allowed_snakemake_runs_the_first_rules(tmp_path):
    oldest = re.search(r'min_version\("([\d.]+)"\)', (ROOT / "Snakefile").read_text())[1] + ".0"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "old")]
    done = subprocess.run([*words, f"snakemake=={oldest}", "appdirs"], capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"snakemake {oldest} cannot be installed here: {done.stderr.strip()[-200:]}")
    checkout = Checkout.new(tmp_path / "checkout")
    words = [sys.executable, "-m", "snakemake", "--cores", "2", "look"]
    environment = {**checkout.environment, "PYTHONPATH": str(tmp_path / "old")}
    done = subprocess.run(words, cwd=checkout.folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout["results/tiny/folds.csv"].is_file()
    planned = subprocess.run(
        [*words[:-1], "submission", "-n"], cwd=checkout.folder, env=environment, capture_output=True, text=True
    )
    assert planned.returncode == 0 and "train" in planned.stdout + planned.stderr, planned.stderr
