"""What each way of answering reaches, and in how many seconds of processor: data set x method x seed.

    python bench/accuracy.py                                          # all cells that are not measured yet (hours)
    python bench/accuracy.py --data solar --method quick --seed 0     # some of them
    python bench/accuracy.py --table                                  # nothing is measured: the table and the plot anew

Every cell is a run from nothing in a folder of its own: the labelled images go in, a submission for the others comes out, and
it is scored on labels that no method has seen. Seconds are those of all processes of the run, user and system, so that another
load on the machine counts little; reading the data out of its package is not part of them. A cell is written into
results/accuracy.json as it ends, and is not measured again unless --again asks for it. Then the table is written
into README.md and the plot beside the results.

The test images are the same for every seed, which changes the split, the views, the head and the batches: an interval is what
another seed may give, and not what other test images may.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE)]

import numpy as np  # noqa: E402
import score_held_back  # noqa: E402
import workflow  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402
from measure import ROOT, Skipped, machine, name_of  # noqa: E402
from scipy.stats import t as student  # noqa: E402

from eightfold.config import schema  # noqa: E402
from eightfold.config.resolve import check_yaml_file, resolve  # noqa: E402
from eightfold.core.files import UserError, read_json, write_json, write_text  # noqa: E402
from eightfold.net import starting_weights  # noqa: E402
from eightfold.raw import demo, solar  # noqa: E402
from eightfold.review import plots  # noqa: E402

RESULTS, README = HERE / "results" / "accuracy.json", HERE / "README.md"
BEGIN, END = "<!-- accuracy: written by accuracy.py -->", "<!-- /accuracy -->"
SEEDS = (0, 1, 2)
SHARED = ROOT.parent / "shared"
DATA_FOLDER = Path(os.environ.get("EIGHTFOLD_BENCH_DATA", SHARED / "data" / "ants_bees"))
DATA_WEIGHTS = Path(os.environ.get("EIGHTFOLD_BENCH_WEIGHTS", SHARED / "weights" / "mobilenet_v2.pth"))
CONFIDENCE = 0.95  # of the intervals


# ---- the data sets


class LaidOut(NamedTuple):
    """A job on disk: root has train/, test/, labels.csv and sample_submission.csv; held_back.csv has the test labels."""

    root: Path
    held_back: Path
    suffix: str
    weights: str  # a path, or none


@dataclass(frozen=True)
class Data:
    """A data set: the config it is answered with, and what a fastai user would ask for.

    fastai: px of the images, epochs of all layers (after one of the head alone), and the rate; flip_vert: seen from above.
    """

    title: str
    config: str
    lay_out: Callable[[Path], LaidOut]
    size: int
    epochs: int
    flip_vert: bool = False
    flip: bool = True
    lr: float = 2e-3


def lay_out_digits(folder: Path) -> LaidOut:
    """scikit-learn's digits, as the demo has them."""
    demo.write_demo(folder / "job")
    return LaidOut(folder / "job", folder / "held_back.csv", ".png", "none")


def lay_out_ants_bees(folder: Path) -> LaidOut:
    """The ants and bees below DATA_FOLDER: train/ with labels, valid/ as what is to be predicted."""
    if not DATA_FOLDER.is_dir() or not DATA_WEIGHTS.is_file():
        raise Skipped(
            f"{DATA_FOLDER} or {DATA_WEIGHTS} is not there; EIGHTFOLD_BENCH_DATA names a folder with train/<class>/ and "
            "valid/<class>/, EIGHTFOLD_BENCH_WEIGHTS torchvision's file of MobileNetV2"
        )
    root, listed = folder / "job", {}
    for split, source in (("train", "train"), ("test", "valid")):
        (root / split).mkdir(parents=True)
        listed[split] = []
        for path in sorted((DATA_FOLDER / source).glob("*/*")):
            name = f"{path.parent.name}_{path.name}"
            # The name of a test image must not say its class.
            name = f"{len(listed[split]):04d}{path.suffix}" if split == "test" else name
            shutil.copyfile(path, root / split / name)
            listed[split].append([name, path.parent.name])
    classes = sorted({label for _, label in listed["train"]})
    uniform = [[name, *[1 / len(classes)] * len(classes)] for name, _ in listed["test"]]
    write_text(root / "labels.csv", demo.table([["id", "label"], *listed["train"]]))
    write_text(root / "sample_submission.csv", demo.table([["id", *classes], *uniform]))
    write_text(folder / "held_back.csv", demo.table([["id", "label"], *listed["test"]]))
    return LaidOut(root, folder / "held_back.csv", "", str(DATA_WEIGHTS))


def lay_out_solar(folder: Path) -> LaidOut:
    """The solar cells, out of the two packages of `make solar`."""
    try:
        solar.lay_out(folder)
    except UserError as error:
        raise Skipped(str(error)) from None
    return LaidOut(folder / "job", folder / "held_back.csv", ".png", str(folder / "tf_efficientnet_lite0.safetensors"))


DATA = {
    "digits": Data("digits, 32 px, random weights", "config.yaml", lay_out_digits, 32, 6, flip=False),
    "ants_bees": Data("ants and bees, MobileNetV2", "examples/ants_bees.yaml", lay_out_ants_bees, 224, 4),
    "solar": Data("solar cells, lite0", "examples/solar_cells.yaml", lay_out_solar, 224, 6, flip_vert=True),
}


# ---- the methods


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


# ---- a cell


def scores(held_back: Path, submission: Path) -> dict[str, float | int]:
    """accuracy, log_loss, images and, for two classes, roc_auc of a submission."""
    with open(held_back, newline="", encoding="utf-8") as file:
        truth = {row["id"]: row["label"] for row in csv.DictReader(file)}
    with open(submission, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    accuracy, loss = score_held_back.score(truth, rows, reader.fieldnames[0])
    area = score_held_back.roc_auc(truth, rows, reader.fieldnames[0])
    return {"accuracy": accuracy, "log_loss": loss, "images": len(rows)} | ({} if area is None else {"roc_auc": area})


@contextlib.contextmanager
def laid_out(name: str) -> Iterator[tuple[LaidOut, Path]]:
    """A data set in a folder that goes away, and a place beside it for the runs."""
    with tempfile.TemporaryDirectory(prefix="eightfold-accuracy-") as folder:
        yield DATA[name].lay_out(Path(folder) / "data"), Path(folder)


def measure(name: str, method: str, seed: int, threads: int, known: dict[str, dict]) -> dict:
    """One cell, as it stands in the results; ``known``: the cells of the same data and seed, by method.

    Raises Skipped with the reason where it cannot be measured here, and RuntimeError with the last words of what failed.
    """
    with laid_out(name) as (job, folder):
        (folder / "run").mkdir()
        load = round(os.getloadavg()[0], 1)
        run = METHODS[method](Cell(DATA[name], job, seed, threads, folder / "run", known))
        here = machine(threads)
        cell = {"data": name, "method": method, "seed": seed, **scores(job.held_back, run.submission), **run.more}
        cell |= {"processor_s": round(run.processor_s, 1), "wall_s": round(run.wall_s, 1), "load": load}
        return cell | {"machine": name_of(here), "threads": threads, "versions": here["versions"]}


def key(cell: dict) -> tuple[str, str, int]:
    return cell["data"], cell["method"], cell["seed"]


def in_order(cells: Iterable[dict]) -> list[dict]:
    """Cells in the order of the data sets, methods and seeds."""
    return sorted(cells, key=lambda c: (list(DATA).index(c["data"]), list(METHODS).index(c["method"]), c["seed"]))


# ---- the table and the plot


def mean_and_half(values: list[float]) -> tuple[float, float | None]:
    """(mean, half the width of its 95 % interval by Student's t over the seeds); None for a single value."""
    if len(values) < 2:
        return float(np.mean(values)), None
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)


def groups(cells: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """The cells of each data set and method, in the table's order."""
    found: dict[tuple[str, str], list[dict]] = {}
    for cell in in_order(cells):
        found.setdefault((cell["data"], cell["method"]), []).append(cell)
    return found


def with_half(values: list[float], digits: int) -> str:
    """`0.123 ± 0.045`, or without an interval for a single value."""
    mean, half = mean_and_half(values)
    return f"{mean:,.{digits}f}" + ("" if half is None else f" ± {half:,.{digits}f}")


def table(cells: list[dict]) -> str:
    """A markdown table of the cells: a row for each data set and method, means over seeds and their intervals.

    Seconds are to be compared where the machine is the same.
    """
    lines = ["| data | method | seeds | accuracy | log loss | ROC AUC | processor s | machine |", f"|{'---|' * 8}"]
    for (name, method), group in groups(cells).items():
        areas = [cell["roc_auc"] for cell in group if "roc_auc" in cell]
        words = [DATA[name].title, method, str(len(group))]
        words += [with_half([cell[figure] for cell in group], 3) for figure in ("accuracy", "log_loss")]
        words += [with_half(areas, 3) if areas else "", with_half([cell["processor_s"] for cell in group], 0)]
        words.append(", ".join(dict.fromkeys(cell["machine"].replace("_", " ") for cell in group)))
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def draw(cells: list[dict], path: Path) -> None:
    """Log loss over seconds of processor (log scale), a panel for each data set, with intervals over seeds both ways."""
    found = groups(cells)
    names = list(dict.fromkeys(name for name, _ in found))
    colors = dict(
        zip(
            METHODS, [plots.GREEN, plots.BLUE, plots.VIOLET, plots.INK, plots.AMBER, plots.RED, plots.GREY], strict=True
        )
    )
    fig, first = plots.figure(3.4 * len(names), 3.6)
    fig.delaxes(first)
    panels = fig.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for method in (method for data, method in found if data == name):
            group = found[name, method]
            seconds, loss = (mean_and_half([cell[figure] for cell in group]) for figure in ("processor_s", "log_loss"))
            half = min(seconds[1] or 0, 0.9 * seconds[0])  # a log scale has no place for what is below zero
            axes.errorbar(seconds[0], loss[0], loss[1] or 0, half, "o", color=colors[method], capsize=3, label=method)
        machines = len({cell["machine"] for (data, _), group in found.items() if data == name for cell in group})
        label = "seconds of processor" + (f" (of {machines} machines)" if machines > 1 else "")
        axes.set(xscale="log", title=DATA[name].title, xlabel=label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))  # formulas are off: no 10^2
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(color=plots.INK, alpha=0.12, linewidth=0.8)
        axes.margins(x=0.15, y=0.12)
    panels[0].set_ylabel("log loss of the images held back")
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    ordered = [method for method in METHODS if method in shown]
    fig.legend([shown[m] for m in ordered], ordered, loc="outside lower center", ncols=min(4, len(ordered)))
    plots.save(fig, path)


def put_table(text: str, made: str) -> str:
    """The text with what stands between the two marks replaced. Raises UserError where it has not both."""
    before, mark, rest = text.partition(BEGIN)
    if not mark or END not in rest:
        raise UserError(f"{README}: the marks {BEGIN} and {END} are missing, between which the table is written")
    return f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"


def publish(cells: list[dict], results: Path) -> None:
    """Write the plot beside the results and, where they are the project's own, the table into README.md."""
    print(table(cells))
    draw(cells, results.with_suffix(".svg"))
    if results.resolve() == RESULTS:
        write_text(README, put_table(README.read_text(encoding="utf-8"), table(cells)))


# ---- the command


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads of every method (all)")
    parser.add_argument("--again", action="store_true", help="measure cells that are there already, too")
    parser.add_argument("--table", action="store_true", help="measure nothing: write the table and draw the plot")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(words)
    kept = {key(cell): cell for cell in read_json(asked.results)["cells"]} if asked.results.exists() else {}
    failed = []
    wanted = (
        [] if asked.table else [(d, m, s) for d in asked.data for s in asked.seed for m in METHODS if m in asked.method]
    )
    for name, method, seed in wanted:
        if (name, method, seed) in kept and not asked.again:
            continue
        known = {m: cell for (d, m, s), cell in kept.items() if (d, s) == (name, seed)}
        try:
            cell = measure(name, method, seed, asked.threads, known)
        except Skipped as reason:
            print(f"{name}, {method}, seed {seed}: skipped: {reason}", flush=True)
            continue
        except (RuntimeError, ValueError, OSError) as error:
            print(f"{name}, {method}, seed {seed}: failed: {error}", file=sys.stderr, flush=True)
            failed.append(f"{name}, {method}, seed {seed}")
            continue
        kept[key(cell)] = cell
        write_json(asked.results, {"cells": in_order(kept.values())})
        figures = ", ".join(
            f"{figure} {cell[figure]:.4f}" for figure in ("accuracy", "log_loss", "roc_auc") if figure in cell
        )
        print(f"{name}, {method}, seed {seed}: {figures}, {cell['processor_s']} s of processor", flush=True)
    if kept:
        publish(list(kept.values()), asked.results)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
