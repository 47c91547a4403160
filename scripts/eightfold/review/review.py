"""What to look at after training, in numbers: confusion, figures of each class, calibration.

Pure functions of probabilities (n, C), of targets and of decisions, what is answered: both (n,) class numbers where an
image has one label, (n, C) zeros and ones where it may have several. `metrics.decide` decides, nothing here does.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from eightfold.review.held_out import HeldOut


def _multi_label(targets: np.ndarray) -> bool:
    return targets.ndim == 2


def truth_probability(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n,) probability given to the truth: of the actual class, or the mean over the classes of p or 1 - p."""
    if _multi_label(targets):
        return np.where(targets > 0, probabilities, 1 - probabilities).mean(1)
    return probabilities[np.arange(len(targets)), targets]


def names_of(choice: np.ndarray, classes: Sequence[str]) -> str:
    """The class names of a class number or of a row of zeros and ones."""
    if np.ndim(choice) == 0:
        return classes[choice]
    return ", ".join(name for name, given in zip(classes, choice, strict=True) if given) or "nothing"


def confidence(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n,) how sure a prediction is, right or wrong: the largest probability (least is 1/C), or the mean distance of
    the classes' probabilities from 0.5."""
    return np.abs(probabilities - 0.5).mean(1) if _multi_label(targets) else probabilities.max(1, initial=0)


def confusion(decisions: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) numbers of images: row the actual class, column the predicted one.

    Several labels: the diagonal counts a label found; (i, j) counts images where label i was missed while j, which
    they do not have, was predicted.
    """
    if _multi_label(targets):
        targets = targets.astype(np.int64)
        matrix = (targets * (1 - decisions)).T @ ((1 - targets) * decisions)
        return matrix + np.diag((targets * decisions).sum(0))
    return np.bincount(targets * classes + decisions, minlength=classes * classes).reshape(classes, classes)


def most_confused_pairs(matrix: np.ndarray, classes: Sequence[str], most: int = 15) -> list[dict]:
    """The commonest mistakes of a confusion matrix: actual, predicted, count, and the share of the actual class."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(*divmod(int(place), len(matrix)), int(wrong.flat[place])) for place in order]
    return [
        {"actual": classes[i], "predicted": classes[j], "count": count, "share": count / int(matrix[i].sum())}
        for i, j, count in pairs
        if count
    ]


def per_class(decisions: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """A row per class: count of images that have it, predicted, precision, recall, accuracy (of the question "is it
    this class?", over all images). A share of nothing is NaN."""
    if not _multi_label(targets):
        decisions, targets = (np.eye(len(classes), dtype=np.int64)[column] for column in (decisions, targets))
    targets = targets.astype(np.int64)
    found, count, claimed = (decisions * targets).sum(0), targets.sum(0), decisions.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {
            "precision": found / claimed,
            "recall": found / count,
            "accuracy": (decisions == targets).sum(0) / np.float64(len(targets)),
        }
    return pd.DataFrame({"class": list(classes), "count": count, "predicted": claimed, **shares})


def calibration_bins(probabilities: np.ndarray, targets: np.ndarray, bins: int = 10) -> tuple[list[dict], float | None]:
    """Reliability: equal-width bins of confidence with the mean confidence, accuracy and count of each, and the
    expected calibration error (mean gap of the two, weighted by count; None without images).

    It is of the probabilities, whatever is answered: one label, whether the likeliest class is right as often as its
    probability says; several, the likelier of yes and no, of confidence max(p, 1 - p), for each class of each image.
    """
    if _multi_label(targets):
        sure = np.maximum(probabilities, 1 - probabilities).ravel()
        hit = ((probabilities > 0.5) == (targets > 0)).ravel()
    else:
        sure, hit = confidence(probabilities, targets), probabilities.argmax(1) == targets
    place = np.minimum((sure * bins).astype(np.int64), bins - 1)
    table, error = [], 0.0
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        mean, accuracy = (float(sure[inside].mean()), float(hit[inside].mean())) if count else (None, None)
        error += abs(mean - accuracy) * count if count else 0
        edges = {"low": number / bins, "high": (number + 1) / bins}
        table.append({**edges, "confidence": mean, "accuracy": accuracy, "count": count})
    return table, error / len(sure) if len(sure) else None


def losses(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n,) log loss of each image in nats (several labels: mean over the classes), probabilities kept off 0."""
    tiny = np.finfo(np.float64).eps
    if _multi_label(targets):
        return -np.log(np.clip(np.where(targets > 0, probabilities, 1 - probabilities), tiny, 1)).mean(1)
    return -np.log(np.clip(truth_probability(probabilities, targets), tiny, 1))


def standard_error(values: np.ndarray) -> float | None:
    """Standard error of the mean of some values; None below two of them."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def tables(images: HeldOut, task: str, tuned: Mapping) -> dict:
    """Everything of this file that is a number, as plain JSON values. tuned: by what the images' decisions were made."""
    probabilities, targets, decisions = images.probabilities, images.targets, images.decisions
    bins, error = calibration_bins(probabilities, targets)
    loss, matrix = losses(probabilities, targets), confusion(decisions, targets, len(images.classes))
    rows = per_class(decisions, targets, images.classes).to_dict("records")
    return {
        "task": task,
        "images": len(targets),
        "decided_by": next((name for name in ("thresholds", "cut_points") if tuned.get(name) is not None), None),
        "wrong": int((~images.right).sum()),
        "log_loss": float(loss.mean()) if len(loss) else None,
        "log_loss_se": standard_error(loss),
        "per_class": [{key: None if value != value else value for key, value in row.items()} for row in rows],
        "confused": most_confused_pairs(matrix, images.classes),
        "cells": " ".join(f"{i},{j},{matrix[i, j]}" for i, j in np.argwhere(matrix)),  # row, column, images
        "calibration": bins,
        "ece": error,
    }
