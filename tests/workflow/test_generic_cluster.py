"""profiles/generic-cluster, as it is, with a `qsub` that notes what it is asked for and runs the script."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "slurm"))

import tiny

QSUB = """#!/bin/sh
echo "$*" >> {folder}/asked
for script; do :; done
setsid sh "$script" > {folder}/out 2>&1 < /dev/null &
echo 17.head
"""


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="snakemake-executor-plugin-cluster-generic is not installed: envs/requirements-extra.txt",
)
def test_a_run_by_a_command_that_submits(tmp_path):
    tiny.write_images(tmp_path / "images", labelled=16, test=2)
    config = tiny.write_config(tmp_path / "tiny.yaml", tmp_path / "images")
    folder = tiny.workplace(tmp_path / "place")
    qsub = tmp_path / "bin" / "qsub"
    qsub.parent.mkdir()
    qsub.write_text(QSUB.format(folder=tmp_path))
    qsub.chmod(0o755)
    words = ["--workflow-profile", "profiles/generic-cluster", "--retries", "0", "--set-threads", "manifest=1"]
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--configfile", config, *words, "--", "results/tiny/folds.json"],
        cwd=folder,
        env={**os.environ, "PATH": f"{qsub.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    told = (tmp_path / "out").read_text() if (tmp_path / "out").exists() else ""
    assert result.returncode == 0, result.stdout + result.stderr + told
    assert (folder / "results/tiny/folds.json").exists() and "17.head" in result.stdout + result.stderr
    # One job for the three rules: 120 minutes of `manifest`, 60 of `duplicates` and 10 of `folds`, the largest memory.
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "-l walltime=03:10:00 " in asked
    assert "-l select=1:ncpus=1:mem=4000mb:ngpus=0 " in asked and (folder / "results/cache/cluster_logs").is_dir()


def test_the_groups_of_both_clusters_are_the_same_and_of_rules_that_exist():
    profiles = {
        name: yaml.safe_load((tiny.ROOT / "profiles" / name / "profile.yaml").read_text())
        for name in ("slurm", "generic-cluster")
    }
    groups = profiles["slurm"]["groups"]
    assert groups == profiles["generic-cluster"]["groups"]
    rules = "".join(path.read_text() for path in (tiny.ROOT / "rules").glob("*.smk"))
    assert all(f"\nrule {entry.partition('=')[0]}:" in rules for entry in groups)
