"""Which held-out images tell most about the network, and their contact sheets.

Ties are broken by the lower row number, so that the same predictions give the same sheets.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from eightfold.review import review
from eightfold.review.held_out import HeldOut
from eightfold.review.sheets import GREEN, RED, sheet_svg

TITLES = {
    "most_correct": "Most correct: right, and surest of it",
    "most_incorrect": "Most incorrect: wrong, with the least probability for the truth",
    "most_uncertain": "Most uncertain: the network could not decide",
    "random_right": "Some right ones, at random",
    "random_wrong": "Some wrong ones, at random",
}
NO_IMAGES = "There are no validation images."


def chosen(images: HeldOut, number: int, seed: int) -> dict[str, np.ndarray]:
    """Places among the images of up to ``number`` for each sheet of TITLES."""
    right = np.flatnonzero(images.right), np.flatnonzero(~images.right)
    return {
        "most_correct": most_correct(images, number),
        "most_incorrect": most_incorrect(images, number),
        "most_uncertain": most_uncertain(images, number),
        "random_right": random_rows(right[0], number, seed),
        "random_wrong": random_rows(right[1], number, seed),
    }


def most_correct(images: HeldOut, number: int) -> np.ndarray:
    """Those answered rightly with the highest probability, from each actual class in turn."""
    truth = review.truth_probability(images.probabilities, images.targets)
    return _by_class(np.flatnonzero(images.right), truth, _group(images.targets), number)


def most_incorrect(images: HeldOut, number: int) -> np.ndarray:
    """Those answered wrongly that give the truth the lowest probability, from each actual class in turn."""
    truth = review.truth_probability(images.probabilities, images.targets)
    return _by_class(np.flatnonzero(~images.right), -truth, _group(images.targets), number)


def most_uncertain(images: HeldOut, number: int) -> np.ndarray:
    """Those of the least confidence, right or wrong: p near 1/C, or near 0.5 where labels are several."""
    return np.argsort(review.confidence(images.probabilities, images.targets), kind="stable")[:number]


def random_rows(rows: np.ndarray, number: int, seed: int) -> np.ndarray:
    """``number`` of ``rows`` at most, at random but the same for the same seed, in rising order."""
    picked = np.random.default_rng(seed).permutation(len(rows))[:number]
    return np.sort(np.asarray(rows)[picked])


def _by_class(rows: np.ndarray, score: np.ndarray, group: np.ndarray, number: int) -> np.ndarray:
    """``number`` of ``rows`` with the highest score, taken in turn from each group: every group's first, then every
    group's second ...; returned group by group."""
    rows = rows[np.lexsort((rows, -score[rows]))]
    turn = pd.Series(group[rows]).groupby(group[rows]).cumcount().to_numpy() if len(rows) else rows
    picked = np.lexsort((rows, -score[rows], turn))[:number]
    return rows[picked][np.lexsort((turn[picked], group[rows][picked]))]


def _group(targets: np.ndarray) -> np.ndarray:
    """(n,) what images are grouped by: the actual class; all alike where they have several."""
    return np.zeros(len(targets), dtype=np.int64) if targets.ndim == 2 else targets


def sheet_of(name: str, images: HeldOut, shown: Sequence[int], pixels: Sequence[np.ndarray]) -> str:
    """The sheet of TITLES called ``name`` as SVG text. shown: places among the images; pixels: by row of the manifest."""
    right, empty = images.right, NO_IMAGES
    if len(images.ids):
        empty = f"None: all of the {len(images.ids)} validation images are {'right' if right.all() else 'wrong'}."
    return sheet_svg(
        [pixels[images.rows[i]] for i in shown],
        [caption(images, i) for i in shown],
        title=TITLES[name],
        colors=[GREEN if right[i] else RED for i in shown],
        empty=empty,
    )


def caption(images: HeldOut, i: int) -> str:
    """What was answered for image ``i``, what it is, and its id; of one class with their probabilities."""
    decision, target = images.decisions[i], images.targets[i]
    answer, truth = review.names_of(decision, images.classes), review.names_of(target, images.classes)
    if np.ndim(target) == 0:
        of_image = images.probabilities[i]
        answer, truth = f"{answer} {of_image[decision]:.0%}", f"{truth} {of_image[target]:.0%}"
    return f"predicted {answer}\nactual {truth}\n{images.ids[i]}"
