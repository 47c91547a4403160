"""The methods of accuracy.py: each makes a submission out of a data set that is laid out, and its seconds are counted."""

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import workflow
from accuracy_data_sets import Data, LaidOut
from measure import ROOT, Skipped

from eightfold.config import schema
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.net import starting_weights

HERE = Path(__file__).resolve().parent


class Measured(NamedTuple):
    """A run: its submission, the seconds it took, and what else there is to keep of it."""

    submission: Path
    processor_s: float
    wall_s: float
    more: dict


@dataclass
class Cell:
    """What a method needs: a data set that is laid out, a seed, threads, an empty folder, and the cells measured before."""

    data: Data
    job: LaidOut
    seed: int
    threads: int
    folder: Path
    known: dict[str, dict]  # method -> cell of the same data and seed


def our_config(cell: Cell, method: str) -> dict:
    """The data set's config with our data, seed and run, and of its recipe what the method asks for."""
    config = check_yaml_file(ROOT / cell.data.config)
    table = {"source": "csv", "labels": "labels.csv", "id": "id", "label": "label", "train": "train", "test": "test"}
    table |= {"root": str(cell.job.root), "suffix": cell.job.suffix, "sample_submission": "sample_submission.csv"}
    config |= {"run": "accuracy", "seed": cell.seed, "data": table}
    config["model"] = {**config["model"], "weights": cell.job.weights}
    if method == "head":
        config["recipe"] = head_stages(resolve(dict(config), cell.data.config)["recipe"])
    if method == "folds":
        config["split"] = {**(config.get("split") or {}), "folds": 5, "use": [0, 1, 2, 3, 4]}
    return config


def head_stages(recipe: list[dict]) -> list[dict]:
    """The stages of the head alone at the recipe's first size."""
    return [stage for stage in recipe if stage["train"] == "head" and stage["size"] == recipe[0]["size"]]


def ours(method: str) -> Callable[[Cell], Measured]:
    """A run of the workflow, by Snakemake, from nothing to the submission."""

    def run(cell: Cell) -> Measured:
        name = "submission_quick.csv" if method == "quick" else "submission.csv"
        if method == "quick" and "linear" not in json.dumps(schema.load_schema()["properties"]["recipe"]):
            raise Skipped("this version has no `train: linear`, so no quick answer")
        folder = workflow.checkout(cell.folder / "checkout", our_config(cell, method))
        words = [sys.executable, "-m", "snakemake", f"results/accuracy/{name}", "--cores", str(cell.threads)]
        seconds = measured(words, folder, cell.threads)
        return Measured(folder / "results" / "accuracy" / name, *seconds, {})

    return run


def worker(script: str, cell: Cell, **asked: object) -> Measured:
    """A run of another script of this folder, which gets a JSON text and writes a submission; it prints a JSON object last."""
    model = resolve(check_yaml_file(ROOT / cell.data.config), cell.data.config)["model"]
    out, mean_std = cell.folder / "submission.csv", starting_weights.pretrained(model["arch"], "none", 0)[1:]
    given = {"root": str(cell.job.root), "suffix": cell.job.suffix, "size": cell.data.size, "seed": cell.seed}
    given |= {"arch": model["arch"], "weights": cell.job.weights, "mean": mean_std[0], "std": mean_std[1]}
    given |= {"out": str(out), "threads": cell.threads, **asked}
    words, printed = [sys.executable, str(HERE / script), json.dumps(given)], cell.folder / "printed.txt"
    seconds = measured(words, HERE, cell.threads, printed)
    return Measured(out, *seconds, json.loads(printed.read_text().splitlines()[-1]))


def fastai(cell: Cell, epochs: int | None = None) -> Measured:
    """fastai's `fine_tune`, or `fit_one_cycle` from random weights; a fifth validates, its own test-time augmentation answers."""
    if find_spec("fastai") is None:
        raise Skipped("fastai is not installed: make bench installs it, or pip install -r envs/requirements-bench.txt")
    flips = {"flip": cell.data.flip, "flip_vert": cell.data.flip_vert}
    return worker("fastai_tune.py", cell, epochs=epochs or cell.data.epochs, lr=cell.data.lr, batch=64, **flips)


def epochs_within(budget_s: float, took_s: float, training_s: float, epochs: int) -> int:
    """How many epochs of all layers a run of ``budget_s`` seconds has room for, at least 1.

    A run with ``epochs`` of them and one of the head took ``took_s`` seconds, of which training took ``training_s``. The head's
    epoch is counted like the others, though it takes less: the run comes out a little short, and never long by an epoch.
    """
    each = training_s / (epochs + 1)
    return max(1, math.floor((budget_s - (took_s - training_s)) / each) - 1)


def fastai_same_seconds(cell: Cell) -> Measured:
    """fastai with as many epochs as fit into the seconds of our default recipe."""
    if missing := [name for name in ("default", "fastai") if "processor_s" not in cell.known.get(name, {})]:
        raise Skipped(f"measure the method {missing[0]} of this data set and seed first: its seconds are needed")
    peer = cell.known["fastai"]
    if peer["machine"] != cell.known["default"]["machine"]:
        raise Skipped(
            "the default recipe's and fastai's seconds are those of different machines: measure both here, by --again"
        )
    budget = cell.known["default"]["processor_s"]
    return fastai(cell, epochs_within(budget, peer["processor_s"], peer["training_s"], peer["epochs"]))


def by_hand(cell: Cell) -> Measured:
    """A page of scikit-learn on the pooled features of the same network: a logistic regression, its strength by LogisticRegressionCV."""
    return worker("by_hand.py", cell)


# In the order in which they are measured: fastai_same_seconds needs two of those before it.
METHODS: dict[str, Callable[[Cell], Measured]] = {
    "quick": ours("quick"),
    "head": ours("head"),
    "default": ours("default"),
    "folds": ours("folds"),
    "scikit-learn": by_hand,
    "fastai": fastai,
    "fastai_same_seconds": fastai_same_seconds,
}


def measured(words: list[str], folder: Path, threads: int, printed: Path | None = None) -> tuple[float, float]:
    """(processor, wall) seconds of a command and all that it starts. Raises RuntimeError with its last words if it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, **limits})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])}: {(done.stdout + done.stderr)[-2000:]}")
    if printed:
        printed.write_text(done.stdout)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return processor, time.perf_counter() - started
