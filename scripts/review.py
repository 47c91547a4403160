"""Confusion matrix, sheets of telling images and tables of the final validation predictions."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.files import UserError, write_json, write_table
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.review import label_noise, plots, review
from eightfold.review.sheets import AMBER, GREEN, RED, sheet

TITLES = {
    "most_correct": "Most correct: right, and surest of it",
    "most_incorrect": "Most incorrect: wrong, with the least probability for the truth",
    "most_uncertain": "Most uncertain: the network could not decide",
    "random_right": "Some right ones, at random",
    "random_wrong": "Some wrong ones, at random",
}


def read_predictions(path: str, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Ids and probabilities (n, C) of valid.csv, read by place and not by name: a class may be called "id"."""
    with open(path, newline="", encoding="utf-8") as file:
        head = next(csv.reader(file))
    if head[2:] != classes:
        raise UserError(f"{path}: its columns are not the manifest's classes; delete it and run again")
    # Numbers at once: as text, a hundred thousand images of hundreds of classes take ten times the room.
    kinds = [str, str, *[np.float64] * len(classes)]
    style = {"header": None, "skiprows": 1, "keep_default_na": False}
    cells = pd.read_csv(path, dtype=dict(enumerate(kinds)), names=range(len(kinds)), **style)
    return list(cells[0]), cells.iloc[:, 2:].to_numpy(np.float64)


def rows_of(ids: list[str], table: pd.DataFrame, path: str) -> np.ndarray:
    """Row in the manifest of each id, which is unique among the labelled images."""
    labelled = table.index[table["split"] != "test"]
    row_of = dict(zip(table["id"][labelled], labelled, strict=True))
    unknown = [name for name in ids if name not in row_of]
    if unknown:
        raise UserError(
            f"{path}: {unknown[0]!r} is not a labelled image of the manifest; delete the file and run again"
        )
    return np.array([row_of[name] for name in ids], dtype=np.int64)


def caption(name: str, probabilities: np.ndarray, target: np.ndarray, guess: np.ndarray, classes: list[str]) -> str:
    """What was predicted, what it is, and the image's id."""
    said, truth = review.names_of(guess, classes), review.names_of(target, classes)
    if np.ndim(target) == 0:
        said, truth = f"{said} {probabilities[guess]:.0%}", f"{truth} {probabilities[target]:.0%}"
    return f"predicted {said}\nactual {truth}\n{name}"


with job(snakemake.log[0], snakemake.threads):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    classes = info["classes"]
    ids, probabilities = read_predictions(given.valid, classes)
    rows = rows_of(ids, table, given.valid)
    targets = dataset.targets(table, info)[rows]
    guesses, good = review.predicted(probabilities, targets), review.right(probabilities, targets)
    number, seed = settings["per_sheet"], settings["seed"]
    chosen = {
        "most_correct": review.most_correct(probabilities, targets, number),
        "most_incorrect": review.most_incorrect(probabilities, targets, number),
        "most_uncertain": review.most_uncertain(probabilities, targets, number),
        "random_right": review.random_rows(np.flatnonzero(good), number, seed),
        "random_wrong": review.random_rows(np.flatnonzero(~good), number, seed),
    }
    empty = "There are no validation images."
    if len(ids):
        empty = f"None: all of the {len(ids)} validation images are {'right' if good.all() else 'wrong'}."

    pixels = Pixels(Path(given.pixels).parent)
    for name, picked in chosen.items():
        sheet(
            getattr(made, name),
            [pixels[rows[i]] for i in picked],
            [caption(ids[i], probabilities[i], targets[i], guesses[i], classes) for i in picked],
            title=TITLES[name],
            colors=[GREEN if good[i] else RED for i in picked],
            empty=empty,
        )
    doubted, instead, margins = label_noise.suspicious(probabilities, targets)
    noise = {
        "id": [ids[i] for i in doubted],
        "label": table["labels"].iloc[rows[doubted]].array,
        "doubt": [
            classes[c] if targets.ndim == 1 else f"{'not ' * bool(targets[i, c])}{classes[c]}"
            for i, c in zip(doubted, instead, strict=True)
        ],
        "margin": margins.round(6),
    }
    write_table(made.label_noise_table, pd.DataFrame(noise))
    worst = range(min(len(doubted), 2 * number))
    sheet(
        made.label_noise,
        [pixels[rows[doubted[k]]] for k in worst],
        [f"labelled {noise['label'][k]}\nor rather {noise['doubt'][k]}?\n{noise['id'][k]}" for k in worst],
        title="Doubted labels",
        colors=[AMBER for _ in worst],
        empty="No label is doubted." if len(ids) else empty,
    )
    plots.confusion_plot(made.confusion, review.confusion(probabilities, targets), classes)
    write_json(made.tables, review.tables(probabilities, targets, classes, info["task"]))
    log.info("%d validation images, %d predicted wrongly", len(ids), int((~good).sum()))
