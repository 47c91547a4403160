"""What is not work: starting a rule, starting Snakemake, a rerun with nothing to do, a second try."""

import statistics
import sys

import recipe
import workflow
from measure import ROOT, Found, command, in_turns
from rows import Bench, row

# What scripts/train.py does before its first batch, apart from reading its inputs: all it imports, and its network.
START = """
import sys
sys.path.insert(0, {scripts!r})
from pathlib import Path
import numpy as np, pandas as pd, torch
from eightfold.train import lr_finder; from eightfold.predict import metrics; from eightfold.config import schedules; from eightfold.train import stages; from eightfold.core import tensors; from eightfold.train import training
from eightfold.core.devices import device
from eightfold.net.nets import groups
with device() as here:
    net = stages.network("resnet34", 2, 512, 0)
"""


def against(ours, peer, repetitions: int, note: str = "") -> Found:
    """Our seconds over the other's."""
    return Found.of(in_turns({"ours": ours, "peer": peer}, repetitions), "ours", "peer", note)


@row(
    "overheads",
    "seconds from a rule's start to its network over those of a bare import of torch",
    at_most=3,
    minutes=0.5,
)
def rule_start_vs_import_torch(bench: Bench) -> Found:
    ours = START.format(scripts=str(ROOT / "scripts"))
    return against(
        lambda: command(sys.executable, "-c", ours, folder=bench.folder),
        lambda: command(sys.executable, "-c", "import torch", folder=bench.folder),
        5,
        "stage of all layers, resnet34",
    )


@row(
    "overheads",
    "seconds of a rerun with nothing to do over `snakemake -n` of an empty Snakefile",
    at_most=1.5,
    minutes=3,
)
def rerun_vs_empty_snakefile(bench: Bench) -> Found:
    empty = bench.folder / "empty"
    empty.mkdir()
    (empty / "Snakefile").write_text("rule all:\n    input:\n        [],\n")
    return against(
        lambda: workflow.snakemake(bench.finished.folder, "evaluate"), lambda: workflow.snakemake(empty, "-n"), 5
    )


@row("overheads", "seconds that the workflow adds to each job over the mean job's own, tiny run, one core", minutes=0.5)
def added_per_job(bench: Bench) -> Found:
    done = bench.finished
    nothing = statistics.median(workflow.snakemake(done.folder, "evaluate") for _ in range(3))
    added = (done.seconds - nothing - sum(done.jobs)) / len(done.jobs)
    mean = statistics.mean(done.jobs)
    note = f"{len(done.jobs)} jobs of {mean:.2f} s in {done.seconds:.0f} s; {added:.3f} s added to each"
    return Found([max(0.0, added) / mean], {"run": done.seconds, "nothing": nothing, "jobs": sum(done.jobs)}, note)


@row(
    "overheads",
    "seconds of a second learning rate for the head over those of the first run, resnet34 at 224 px",
    at_most=0.05,
    minutes=4,
)
def second_rate_vs_first_run(bench: Bench) -> Found:
    """From the images to a trained head of the default recipe's first two stages, then the head for another rate.

    Of ants and bees where they are there, else of 96 generated images, which take less time for the first run alone.
    """
    images = recipe.DATA if recipe.DATA.is_dir() else bench.classes_folder
    config = {
        "run": "bench",
        "data": {"source": "folders", "root": str(images), "valid": "valid"},
        "model": {"arch": "resnet34", "weights": "none"},
        "recipe": [
            {"name": "head_plain", "size": 224, "train": "head", "augment": False},
            {"name": "head", "size": 224, "train": "head", "cycles": 3},
        ],
    }
    folder, target = workflow.checkout(bench.folder / "rates", config), "results/bench/fold0/head/stage.json"
    first = workflow.snakemake(folder, target, cores=bench.threads)
    before = sum(workflow.job_seconds(folder))
    again = []
    for rate in (0.02, 0.03):
        config["recipe"][1]["lr"] = rate
        workflow.configure(folder, config)
        again.append(workflow.snakemake(folder, target, cores=bench.threads))
    (trained,) = workflow.job_seconds(folder, "head.train")
    note = (
        f"{images.name}; jobs alone: {trained:.1f} s of {before:.1f} s = {trained / before:.3f}; the rest is start-up"
    )
    return Found([seconds / first for seconds in again], {"first": first, "second": statistics.median(again)}, note)
