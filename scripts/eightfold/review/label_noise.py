"""Labels that are probably wrong, from out-of-fold predictions: confident learning (Northcutt et al. 2021)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from eightfold.review.held_out import HeldOut
from eightfold.review.sheets import AMBER, sheet_svg
from eightfold.review.telling_images import NO_IMAGES


def suspicious(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, classes, margins), the most suspicious first: each row's label is doubted in favour of the class.

    probabilities: out-of-fold (n, classes); targets (n,). A class is confidently seen where its probability is at least
    the mean that it has among the images labelled so; the likeliest such class that is not the label is the doubt.
    The margin is the label's probability less that class's, so a negative one says how sure the doubt is.

    That is a question of probabilities: what is answered, and by which thresholds or cut points, has no part in it.

    Several labels, targets (n, classes): each label of an image is a question of yes and no; the class is the one
    whose label is doubted.
    """
    if targets.ndim == 2:
        return _of_several(probabilities, targets)
    n, classes = probabilities.shape
    own = probabilities[np.arange(n), targets]
    counts = np.bincount(targets, minlength=classes)
    least = np.where(counts > 0, np.bincount(targets, own, classes) / np.maximum(counts, 1), np.inf)
    seen = np.where(probabilities >= least, probabilities, -1)
    guess = seen.argmax(1)
    rows = np.flatnonzero((seen.max(1) >= 0) & (guess != targets))
    margin = own[rows] - probabilities[rows, guess[rows]]
    order = np.argsort(margin, kind="stable")
    return rows[order], guess[rows][order], margin[order]


def _of_several(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = []
    for column in range(probabilities.shape[1]):
        p = probabilities[:, column]
        rows, _, margin = suspicious(np.stack([1 - p, p], 1), (targets[:, column] > 0.5).astype(int))
        found += [(value, row, column) for row, value in zip(rows, margin, strict=True)]
    found.sort()
    margin, rows, columns = (np.array(part) for part in zip(*found, strict=True)) if found else ([], [], [])
    return np.asarray(rows, int), np.asarray(columns, int), np.asarray(margin, float)


def doubts(images: HeldOut, labels: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """(places among the images, table of id, label, doubt and margin), the most suspicious first. labels: as the manifest
    has them, of each of its rows; doubt: the class that the image may rather be, or "not" the one that it is said to be."""
    places, instead, margins = suspicious(images.probabilities, images.targets)
    doubted = [
        images.classes[c] if images.targets.ndim == 1 else f"{'not ' * bool(images.targets[i, c])}{images.classes[c]}"
        for i, c in zip(places, instead, strict=True)
    ]
    columns = {"id": [images.ids[i] for i in places], "label": [labels[row] for row in images.rows[places]]}
    return places, pd.DataFrame({**columns, "doubt": doubted, "margin": margins.round(6)})


def sheet_of(
    images: HeldOut, places: np.ndarray, table: pd.DataFrame, pixels: Sequence[np.ndarray], number: int
) -> str:
    """The first ``number`` of what `doubts` found, as a sheet in SVG. pixels: by row of the manifest."""
    rows = table.iloc[:number].itertuples(index=False)
    captions = [f"labelled {row.label}\nor rather {row.doubt}?\n{row.id}" for row in rows]
    return sheet_svg(
        [pixels[images.rows[i]] for i in places[:number]],
        captions,
        title="Doubted labels",
        colors=[AMBER] * len(captions),
        empty="No label is doubted." if len(images.ids) else NO_IMAGES,
    )
