"""The first answer of a run: what the linear stage says, how good that is out of fold, and what knowing nothing would give.

Pure functions of arrays, and a small page. ``judge`` is the metric of the job.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from eightfold.core import tensors
from eightfold.core.devices import Device
from eightfold.core.wording import share_error
from eightfold.inputs import dataset
from eightfold.inputs.sources import Activations
from eightfold.net import checkpoint_parts, scoring
from eightfold.predict import metrics
from eightfold.predict.answer import Answer, answer_every_row
from eightfold.predict.evaluation import Job
from eightfold.predict.metrics import Judge
from eightfold.review import pages, review

MOST_CLASSES = 30  # rows of the page's table of classes: the worst


class HeldOut(NamedTuple):
    """What the linear stage says of held-out images. fold: of each, from 0, the one that did not train on it. prior: the classes'
    shares among what that fold trained on. probabilities, prior: (n, classes). targets: of each image."""

    probabilities: np.ndarray
    prior: np.ndarray
    targets: np.ndarray
    fold: np.ndarray


def read_held_out(
    stages: Sequence[Mapping], paths: Sequence[str | os.PathLike], folds: pd.DataFrame, job: Job
) -> HeldOut:
    """What the stage of each fold says. stages: stage.json of each; paths: its valid.safetensors; folds: folds.csv.

    Raises UserError where a file is not what its stage.json says.
    """
    rows, logits, priors = [], [], []
    for stage, path in zip(stages, paths, strict=True):
        found = tensors.load(path, stage["made_from"])
        train, _ = dataset.train_valid_rows(folds, stage["fold"])
        rows.append(found["rows"].numpy())
        logits.append(found["logits"].numpy())
        priors.append(np.tile(shares(job.targets[train], len(job.classes)), (len(rows[-1]), 1)))
    probabilities = scoring.probabilities_of(np.concatenate(logits), job.multi_label)
    fold = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    return HeldOut(probabilities, np.concatenate(priors), job.targets[np.concatenate(rows)], fold)


def answer_test_images(job: Job, heads: Sequence[str | os.PathLike], activations: str | os.PathLike) -> Answer:
    """The answer for the test images by the heads of all folds, on the starting trunk's plain ``activations``.

    Without test images neither file is read.
    """
    is_test = job.table["split"] == "test"
    if not is_test.any():
        return answer_every_row(job, np.empty(0, int), np.empty((0, len(job.classes))))
    readable = np.flatnonzero(is_test & (job.table["status"] == "ok"))
    pooled = Activations([activations], Device(torch.device("cpu"), torch.float32))(readable, 0)
    with torch.inference_mode():
        logits = [checkpoint_parts.load_head(path)(pooled).numpy() for path in heads]
    mean = np.mean([scoring.probabilities_of(of_head, job.multi_label) for of_head in logits], 0)
    # With several labels in float32, as the class prior is.
    return answer_every_row(job, readable, mean.astype(np.float32) if job.multi_label else mean)


def shares(targets: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class (of each label) among images (n,) or (n, classes): float (classes,), none 0.

    Half an image is added to each class, and to either side of a label: what no image shows is rare, not impossible.
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=classes) + 0.5
        return counts / counts.sum()
    return (targets.sum(0) + 0.5) / (len(targets) + 1)


def errors(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Standard errors, over the images, of accuracy and of log_loss."""
    losses = review.losses(probabilities, targets)
    if targets.ndim == 2:
        right = ((probabilities > 0.5) == (targets > 0.5)).mean(1)
        accuracy = _error(right)
    else:
        accuracy = share_error(scoring.accuracy(probabilities, targets), len(targets))
    return {"accuracy": accuracy, "log_loss": _error(losses)}


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def figures(probabilities: np.ndarray, prior: np.ndarray, targets: np.ndarray, fold: np.ndarray, judge: Judge) -> dict:
    """What metrics_quick.json holds of held-out images; {} without any.

    probabilities: (n, classes), of each image by the fold that did not train on it. prior: (n, classes), the classes' shares
    among what that fold trained on. fold: of each image.
    """
    if not len(targets):
        return {"final": {}, "errors": {}, "baseline": {}, "folds": []}
    by_fold = [metrics.summary(probabilities[fold == k], targets[fold == k], judge) for k in np.unique(fold)]
    return {
        "final": metrics.summary(probabilities, targets, judge),
        "errors": errors(probabilities, targets),
        "baseline": metrics.summary(prior, targets, judge),
        "folds": by_fold,
    }


def collect(job: Job, stage: str, records: Sequence[Mapping], held_out: HeldOut, answer: Answer) -> dict:
    """What metrics_quick.json holds. stage: its name. records: its stage.json of each fold."""
    unreadable = {"unreadable_test_images": answer.unreadable} if len(answer.rows) else {}
    return unreadable | {
        "manifest": job.digest,
        "stage": stage,
        "task": job.judge.task,
        "metric": job.judge.name,
        "strengths": [record["strength"]["chosen"] for record in records],
        **figures(*held_out, job.judge),
    }


def class_rows(probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> list[dict]:
    """{name, images, right, share, taken_for} of each class that held-out images have, the worst first, MOST_CLASSES at most.

    taken_for: the class that most of its other images are given, and how many; of several labels there is none.
    """
    rows = []
    multi = targets.ndim == 2
    matrix = review.confusion(metrics.decide(probabilities, classes, multi), targets, len(classes))
    for number, name in enumerate(classes):
        right = int(matrix[number, number])
        if multi:
            images, wrong = int((targets[:, number] > 0.5).sum()), None
        else:
            images = int(matrix[number].sum())
            others = np.where(np.arange(len(classes)) == number, 0, matrix[number])
            wrong = (classes[int(others.argmax())], int(others.max())) if others.max() else None
        if images:
            rows.append({"name": name, "images": images, "right": right, "share": right / images, "taken_for": wrong})
    return sorted(rows, key=lambda row: row["share"])[:MOST_CLASSES]


def page(run: str, record: Mapping, rows: Sequence[Mapping], submission: bool) -> str:
    """report_quick.html as text. record: what metrics_quick.json holds; rows: `class_rows`."""
    final, base = record["final"], record["baseline"]
    names = [name for name in final if name != "images"]
    table = [
        {
            "name": name,
            "share": name == "accuracy",
            "value": final[name],
            "error": record["errors"].get(name),
            "base": base[name],
        }
        for name in names
    ]
    context = {
        "run": run,
        "record": record,
        "figures": table,
        "rows": rows,
        "most": MOST_CLASSES,
        "submission": submission,
    }
    return pages.render("templates/quick.html", context)
