"""What a run's stages show on the held-out images, each figure with its standard error: what verdicts are drawn from.

Folds count together: each held-out row once, judged by the network of the fold that did not train on it. A difference
of two networks is paired, image by image, which leaves out what an image costs either of them.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from eightfold.core import tensors
from eightfold.core.files import read_json
from eightfold.net import scoring
from eightfold.net.scoring import mean_and_error
from eightfold.predict import metrics
from eightfold.predict.metrics import Judge


def difference(now: np.ndarray, then: np.ndarray) -> dict:
    """{"by", "error"}: the mean of now - then, value by value, with its standard error."""
    by, error = mean_and_error(np.asarray(now, np.float64) - np.asarray(then, np.float64))
    return {"by": by, "error": error}


def correct(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What each row adds to `metrics.accuracy`, float64 (n,): 1 or 0, or the share of its labels that are right."""
    if targets.ndim == 1:
        return (probabilities.argmax(1) == targets).astype(np.float64)
    return ((probabilities > 0.5) == (targets > 0.5)).mean(1)


def read_stage(record: str | os.PathLike, predicted: str | os.PathLike) -> dict:
    """A stage of a fold: its stage.json, and of its validation rows "rows" (n,), "logits" (n, classes), "losses" (epochs, n)."""
    stage = read_json(record)
    return stage | {name: value.numpy() for name, value in tensors.load(predicted, stage.get("made_from")).items()}


def of_run(stages: Sequence[Mapping], targets: np.ndarray, judge: Judge | None = None) -> list[dict]:
    """A row per stage, in the order of the recipe, over all folds that hold rows out (`by_stage` of metrics.json).

    stages: of each fold, as `read_stage` gives them, in the recipe's order. targets: of every row of the manifest.
    A row: stage, folds, epochs, images, figures and the errors of accuracy and log_loss; trained (all,
    head); training, the training loss as `train_loss_eval` has it; since_best, the loss now against that after the best epoch; last_cycle, against
    that at the end of the cycle before (of one cycle: after the epoch before); before, against the stage before.
    What was not measured is None.
    """
    by_name: dict[str, list[Mapping]] = {}
    for stage in stages:
        if len(stage["rows"]):
            by_name.setdefault(stage["stage"], []).append(stage)
    found, before = [], None
    for name, folds in by_name.items():
        answers = [scoring.probabilities_of(fold["logits"], targets.ndim == 2) for fold in folds]
        truth = [targets[fold["rows"]] for fold in folds]
        here = {
            "rows": np.concatenate([fold["rows"] for fold in folds]),
            "losses": np.concatenate([scoring.losses(*pair) for pair in zip(answers, truth, strict=True)]),
            "correct": np.concatenate([correct(*pair) for pair in zip(answers, truth, strict=True)]),
        }
        errors = {"accuracy": mean_and_error(here["correct"])[1], "log_loss": mean_and_error(here["losses"])[1]}
        row = {
            "stage": name,
            "folds": [fold["fold"] for fold in folds],
            "epochs": max(fold.get("epochs") or 0 for fold in folds),
            "images": len(here["rows"]),
            "figures": metrics.summary(np.concatenate(answers), np.concatenate(truth), judge),
            "errors": errors,
            "trained": folds[0].get("train"),
            "training": _training_loss(folds),
            **_within(folds, here["losses"]),
            "before": None,
        }
        if before is not None and np.array_equal(before["rows"], here["rows"]):
            row["before"] = {"stage": found[-1]["stage"]} | {
                figure: difference(here[values], before[values])
                for figure, values in (("log_loss", "losses"), ("accuracy", "correct"))
            }
        found, before = [*found, row], here
    return found


def _training_loss(folds: Sequence[Mapping]) -> dict | None:
    """Mean over folds. They share training images, so that their errors are averaged too, and not divided by sqrt(folds)."""
    if any(fold.get("train_loss_eval") is None for fold in folds):
        return None
    errors = [fold["train_loss_eval_se"] for fold in folds]
    return {
        "log_loss": float(np.mean([fold["train_loss_eval"] for fold in folds])),
        "error": None if None in errors else float(np.mean(errors)),
        "images": sum(fold["train_images_evaluated"] for fold in folds),
        "view": max(fold["train_view_evaluated"] for fold in folds),
    }


def _within(folds: Sequence[Mapping], final: np.ndarray) -> dict:
    """{"since_best", "last_cycle"}: how the validation loss of each row moved inside the stage; None for one epoch.

    The best epoch is each fold's own. It is chosen by the losses that it is then compared by, so that `since_best` leans
    upwards; `verdicts` asks more of it for that.
    """
    unknown = {"since_best": None, "last_cycle": None}
    if any(len(fold.get("losses", ())) < 2 for fold in folds):
        return unknown
    best = [int(np.argmin(fold["losses"].mean(1))) for fold in folds]
    then = []
    for fold in folds:
        ends = [end for end in fold.get("cycle_ends") or [] if end < len(fold["losses"])]
        then.append(ends[-1] - 1 if ends else len(fold["losses"]) - 2)
    at_best = np.concatenate([fold["losses"][epoch] for fold, epoch in zip(folds, best, strict=True)])
    earlier = np.concatenate([fold["losses"][epoch] for fold, epoch in zip(folds, then, strict=True)])
    return {
        "since_best": {"epochs": [epoch + 1 for epoch in best], **difference(final, at_best)},
        "last_cycle": difference(final, earlier),
    }
