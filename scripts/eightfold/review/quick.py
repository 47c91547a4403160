"""The first answer of a run: what the linear stage says, how good that is out of fold, and what knowing nothing would give.

Pure functions of arrays, and a small page. ``judge`` is the metric of the job.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eightfold.core.wording import share_error
from eightfold.net import scoring
from eightfold.predict import metrics
from eightfold.predict.metrics import Judge
from eightfold.review import pages, review

MOST_CLASSES = 30  # rows of the page's table of classes: the worst


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


def class_rows(probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> list[dict]:
    """{name, images, right, share, taken_for} of each class that held-out images have, the worst first, MOST_CLASSES at most.

    taken_for: the class that most of its other images are given, and how many; of several labels there is none.
    """
    rows = []
    multi = targets.ndim == 2
    matrix = review.confusion(metrics.decide(probabilities, classes, multi, {}), targets, len(classes))
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
