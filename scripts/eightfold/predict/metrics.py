"""Figures of merit, on probabilities. (n, classes) float; targets int (n,) or, multi-label, 0/1 (n, classes).

``METRICS`` is the table of those that a job may ask for by name. Some judge probabilities, some decisions: a class
number per row, or 0/1 per row and class.

Our own on purpose: scikit-learn's ROC AUC, average precision and kappa differ in the last digit, and so in the bytes of
metrics.json; they have no value or a warning where a class is absent (ours: see `_by_column`), skip grades that do not
occur, take 2 to 90 times as long in the searches of tuning.py, and 0.9 s to import in every job. The tests compare all
with them.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from eightfold.core.files import UserError
from eightfold.core.ordering import is_number, rising
from eightfold.net import scoring
from eightfold.net.scoring import accuracy, log_loss

# ---- of probabilities


def _auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of one column, by ranks (Mann-Whitney), ties counted half. Both kinds must be there."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]  # mean rank of equals, from 1
    yes = int(truth.sum())
    return float((rank[truth].sum() - yes * (yes + 1) / 2) / (yes * (len(truth) - yes)))


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Sum of precision times the gain in recall over the distinct scores, falling, of one column."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # where a run of equal scores ends
    found = np.cumsum(truth[order])[last]
    return float((found / (last + 1) * np.diff(found, prepend=0)).sum() / truth.sum())


def _by_column(of_column: Callable, probabilities: np.ndarray, targets: np.ndarray, positive: int) -> float:
    """Two classes: of the positive one; else the mean over the columns that hold both kinds of rows (0.5 for none)."""
    classes = probabilities.shape[1]
    truth = np.eye(classes, dtype=bool)[targets] if targets.ndim == 1 else targets > 0.5
    columns = [positive] if targets.ndim == 1 and classes == 2 else range(classes)
    mixed = [c for c in columns if 0 < truth[:, c].sum() < len(truth)]
    return float(np.mean([of_column(probabilities[:, c], truth[:, c]) for c in mixed])) if mixed else 0.5


def roc_auc(probabilities: np.ndarray, targets: np.ndarray, positive: int = 1) -> float:
    """Area under the ROC curve: of the positive of two classes, else the mean over the classes, each against the rest."""
    return _by_column(_auc, probabilities, targets, positive)


def average_precision(probabilities: np.ndarray, targets: np.ndarray, positive: int = 1) -> float:
    """Area under the precision-recall curve: of the positive of two classes, else the mean over the classes."""
    return _by_column(_average_precision, probabilities, targets, positive)


def map_at_k(probabilities: np.ndarray, targets: np.ndarray, k: int) -> float:
    """Mean average precision of the k likeliest classes: 1 / rank of the class, 0 where it is not among them.

    Several labels: the precision at each hit, summed and divided by the smaller of k and the number of labels.
    """
    top = np.argsort(-probabilities, 1, kind="stable")[:, :k]
    truth = np.eye(probabilities.shape[1])[targets] if targets.ndim == 1 else (targets > 0.5).astype(float)
    hits = np.take_along_axis(truth, top, 1)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(1) / np.clip(truth.sum(1), 1, k)).mean())


def top_k_error(probabilities: np.ndarray, targets: np.ndarray, k: int) -> float:
    """Share of rows whose class is not among the k likeliest."""
    top = np.argsort(-probabilities, 1, kind="stable")[:, :k]
    return float(1 - (top == targets[:, None]).any(1).mean())


# ---- of decisions


def _counts(decisions: np.ndarray, targets: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hits, predicted, actual) summed over rows (axis 0) or over classes (axis 1)."""
    if targets.ndim == 1:
        classes = int(max(decisions.max(initial=0), targets.max(initial=0))) + 1
        hits = np.bincount(targets[decisions == targets], minlength=classes)
        return hits, np.bincount(decisions, minlength=classes), np.bincount(targets, minlength=classes)
    said, truth = decisions > 0.5, targets > 0.5
    return (said & truth).sum(axis), said.sum(axis), truth.sum(axis)


def _f(hits, said, truth, beta: float = 1.0):
    """F-beta of counts; 0 where there is nothing to find and nothing was said, as in scikit-learn."""
    below = np.asarray(said + beta**2 * truth, float)
    return (1 + beta**2) * hits / np.where(below > 0, below, 1)


def balanced_accuracy(decisions: np.ndarray, targets: np.ndarray) -> float:
    """Mean recall over the classes that occur."""
    hits, _, truth = _counts(decisions, targets, 0)
    return float((hits[truth > 0] / truth[truth > 0]).mean())


def f1_macro(decisions: np.ndarray, targets: np.ndarray) -> float:
    """Mean F1 over the classes (single-label: those that occur or are predicted)."""
    hits, said, truth = _counts(decisions, targets, 0)
    used = (said + truth > 0) | (targets.ndim == 2)
    return float(_f(hits, said, truth)[used].mean())


def f1_micro(decisions: np.ndarray, targets: np.ndarray) -> float:
    """F1 of all decisions taken together (single-label: the accuracy)."""
    return float(_f(*(count.sum() for count in _counts(decisions, targets, 0))))


def f1_weighted(decisions: np.ndarray, targets: np.ndarray) -> float:
    """Mean F1 over the classes, each weighted by its number of rows."""
    hits, said, truth = _counts(decisions, targets, 0)
    return float((_f(hits, said, truth) * truth).sum() / max(truth.sum(), 1))


def fbeta_samples(decisions: np.ndarray, targets: np.ndarray, beta: float = 2.0) -> float:
    """Mean over the rows of the F-beta of each row's labels; recall counts ``beta`` times as much as precision."""
    return float(_f(*_counts(decisions, targets, 1), beta).mean())


def quadratic_weighted_kappa(decisions: np.ndarray, targets: np.ndarray) -> float:
    """Cohen's kappa with squared distances between grades 0, 1, ...: 1 is agreement, 0 no better than chance."""
    grades = int(max(decisions.max(), targets.max())) + 1
    seen = np.bincount(targets * grades + decisions, minlength=grades**2).reshape(grades, grades)
    weight = np.subtract.outer(np.arange(grades), np.arange(grades)) ** 2
    chance = np.outer(seen.sum(1), seen.sum(0)) / seen.sum()
    expected = float((weight * chance).sum())
    return 1 - float((weight * seen).sum()) / expected if expected else 1.0


# ---- by name


class Metric(NamedTuple):
    """judges: `probabilities` or `decisions`. fits: of `binary`, `single` (three classes or more), `multi`, `ordinal`.

    tunes: what is fitted for it on out-of-fold predictions: `clip`, `thresholds`, `cut_points` or nothing.
    """

    function: Callable[..., float]
    judges: str
    greater_is_better: bool
    fits: tuple[str, ...]
    tunes: str | None = None


ONE, ANY = ("binary", "single"), ("binary", "single", "multi")
METRICS = {
    "log_loss": Metric(log_loss, "probabilities", False, ANY, "clip"),
    "accuracy": Metric(accuracy, "probabilities", True, ANY),
    "balanced_accuracy": Metric(balanced_accuracy, "decisions", True, ONE),
    "f1_macro": Metric(f1_macro, "decisions", True, ANY, "thresholds"),
    "f1_micro": Metric(f1_micro, "decisions", True, ANY, "thresholds"),
    "f1_weighted": Metric(f1_weighted, "decisions", True, ANY, "thresholds"),
    "fbeta_samples": Metric(fbeta_samples, "decisions", True, ("multi",), "thresholds"),
    "roc_auc": Metric(roc_auc, "probabilities", True, ANY),
    "average_precision": Metric(average_precision, "probabilities", True, ANY),
    "quadratic_weighted_kappa": Metric(quadratic_weighted_kappa, "decisions", True, ("ordinal",), "cut_points"),
    "map_at_k": Metric(map_at_k, "probabilities", True, ("single", "multi")),
    "top_k_error": Metric(top_k_error, "probabilities", False, ("single",)),
}


def named(name: str) -> Metric:
    """The metric of a name; a number takes the place of k: map_at_5, top_5_error. Raises UserError for no such name."""
    k = re.search(r"_(\d+)(_|$)", name)
    metric = METRICS.get(re.sub(r"_\d+(?=_|$)", "_k", name) if k else name)
    if metric is None or (k is None and name in ("map_at_k", "top_k_error")):
        raise UserError(f"metric: {name!r} is none of {', '.join(METRICS)} (k is a number: map_at_5, top_5_error)")
    return metric._replace(function=functools.partial(metric.function, k=int(k[1]))) if k else metric


def grade_order(classes: Sequence[str]) -> np.ndarray:
    """Positions of the classes by rising grade, int64 (classes,): 2 before 10, and "grade 2" before "grade 10"."""
    return np.array(rising(classes), np.int64)


def check_fit(name: str, task: str, classes: Sequence[str], ordered: bool = False) -> None:
    """Raise UserError when the metric means nothing for a job: ``task`` single or multi, its classes, whether they are
    grades (``ordered``: data.ordered)."""
    metric, kind = named(name), task if task == "multi" or len(classes) > 2 else "binary"
    if "ordinal" in metric.fits and task == "single":
        if not ordered and not all(map(is_number, classes)):
            raise UserError(
                f"metric: {name} needs grades, and the classes {list(classes)[:5]} are not numbers; set data.ordered: true "
                "if their natural order (grade 2 before grade 10) is that of the grades"
            )
        return
    if kind not in metric.fits:
        says = {
            "binary": "has two classes",
            "single": "has one label per image",
            "multi": "has several labels per image",
        }
        fitting = [other for other, entry in METRICS.items() if kind in entry.fits]
        raise UserError(f"metric: {name} does not fit a job that {says[kind]}; those that do: {', '.join(fitting)}")
    k = getattr(metric.function, "keywords", {}).get("k")
    if k is not None and not 1 <= k < len(classes) + (task == "multi"):
        raise UserError(f"metric: {name} asks for {k} of {len(classes)} classes; k must be 1 to {len(classes) - 1}")


def decide(
    probabilities: np.ndarray, classes: Sequence[str], multi_label: bool, tuned: Mapping | None = None
) -> np.ndarray:
    """What is answered, in the submission and wherever it is shown or scored: the class (n,) int64 or, where labels are
    ``multi_label``, 0/1 (n, classes).

    Probabilities: as submitted, so a temperature is in them already. ``tuned``, as tuning.json has it, may hold thresholds (one, or one per class; else 0.5), or cut_points: rising, one fewer than classes. They cut
    the expected grade of a row, over the rising classes.
    """
    tuned = tuned or {}
    thresholds, cut_points = tuned.get("thresholds"), tuned.get("cut_points")
    if multi_label:
        return (probabilities > (0.5 if thresholds is None else np.asarray(thresholds))).astype(np.int64)
    if cut_points is None:
        return probabilities.argmax(1)
    order = grade_order(classes)
    return order[np.searchsorted(cut_points, expected_grade(probabilities, order), side="right")]


def expected_grade(probabilities: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,) mean rank of the grades 0, 1, ... under each row's probabilities."""
    return probabilities[:, order] @ np.arange(len(order)) / probabilities.sum(1)


class Judge(NamedTuple):
    """The metric of a job, with what the job is: judge(probabilities, targets) is a float.

    positive: the column of the positive of two classes.
    """

    name: str
    task: str
    classes: Sequence[str]
    positive: int = 1

    @property
    def metric(self) -> Metric:
        return named(self.name)

    def decide(self, probabilities: np.ndarray, tuned: Mapping | None = None) -> np.ndarray:
        """`decide` for this job, with what was tuned."""
        return decide(probabilities, self.classes, self.task == "multi", tuned)

    def of_decisions(self, chosen: np.ndarray, targets: np.ndarray) -> float:
        """The figure of decisions already taken; only where the metric judges decisions."""
        if "ordinal" in self.metric.fits:
            rank = np.argsort(grade_order(self.classes))  # class number to grade number
            chosen, targets = rank[chosen], rank[targets]
        return self.metric.function(chosen, targets)

    def __call__(self, probabilities: np.ndarray, targets: np.ndarray) -> float:
        if self.metric.judges == "decisions":
            return self.of_decisions(self.decide(probabilities), targets)
        options = {"positive": self.positive} if self.name in ("roc_auc", "average_precision") else {}
        return self.metric.function(probabilities, targets, **options)

    def better(self, one: float, other: float) -> bool:
        """Whether the figure ``one`` is better than ``other``."""
        return one > other if self.metric.greater_is_better else one < other


def summary(probabilities: np.ndarray, targets: np.ndarray, judge: Judge | None = None) -> dict:
    """The figures that every stage and the final prediction report: accuracy, log_loss and the metric of the job."""
    figures = scoring.figures(probabilities, targets)
    if judge is not None and judge.name not in figures:
        figures[judge.name] = judge(probabilities, targets)
    return figures | {"images": len(targets)}
