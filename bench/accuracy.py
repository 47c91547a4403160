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
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE)]

import score_held_back  # noqa: E402
from accuracy_data_sets import DATA, LaidOut  # noqa: E402
from accuracy_methods import METHODS, Cell  # noqa: E402
from accuracy_table import README, draw, in_order, put_table, table  # noqa: E402
from measure import Skipped, machine, name_of  # noqa: E402

from eightfold.core.files import read_json, write_json, write_text  # noqa: E402

RESULTS = HERE / "results" / "accuracy.json"
SEEDS = (0, 1, 2)


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


def publish(cells: list[dict], results: Path) -> None:
    """Write the plot beside the results and, where they are the project's own, the table into README.md."""
    print(table(cells))
    draw(cells, results.with_suffix(".svg"))
    if results.resolve() == RESULTS:
        write_text(README, put_table(README.read_text(encoding="utf-8"), table(cells)))


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
