"""Pictures that no manifest knows: any folder of them, found, decoded, packed; and what was said of them as tables."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold import images, pixels
from eightfold.files import UserError
from eightfold.listing import files_below
from eightfold.review import THRESHOLD


def find(folder: str | os.PathLike) -> list[str]:
    """Paths of the pictures below ``folder`` (told by their suffix), relative to it and sorted.

    Raises UserError when there is none, since an empty answer would look like success.
    """
    found = sorted(name for name, _ in files_below(folder))
    pictures = [name for name in found if os.path.splitext(name)[1].lower() in images.SUFFIXES]
    if not pictures:
        suffixes = ", ".join(sorted(images.SUFFIXES))
        raise UserError(
            f"{folder}: none of its {len(found)} files is a picture ({suffixes}); give a folder that has some"
        )
    return pictures


def pack(
    folder: str | os.PathLike,
    names: Sequence[str],
    target: str | os.PathLike,
    short_side: int,
    threads: int,
    progress: Callable[..., Iterable] = lambda items, *_: items,
) -> list[tuple[str, str]]:
    """Decode and resize the pictures into a packed folder ``target``, in the order of ``names``.

    Returns (name, reason) of those that cannot be read: their rows hold no image.
    """
    bad: dict[str, str] = {}

    def read(name: str) -> np.ndarray:
        try:
            return pixels.resized(images.open_image(Path(folder, name)), short_side)
        except images.BadImage as error:
            bad[name] = str(error)
            return np.empty((0, 0, 3), np.uint8)

    pixels.pack(target, progress(pixels.in_order(read, names, threads), len(names), "new pictures"))
    return [(name, bad[name]) for name in names if name in bad]


def answers(
    names: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], separator: str | None
) -> pd.DataFrame:
    """path, prediction, probability, then a column per class. ``separator`` None: one label, the likeliest, with its
    probability; else every label above the threshold, joined, with the least sure decision among all labels."""
    if separator is None:
        best = probabilities.argmax(1)
        said, sure = [classes[i] for i in best], probabilities[np.arange(len(best)), best]
    else:
        said = [
            separator.join(name for name, p in zip(classes, row, strict=True) if p > THRESHOLD) for row in probabilities
        ]
        sure = np.maximum(probabilities, 1 - probabilities).min(1)
    # By position, not by name: a class may be called "path".
    told = pd.DataFrame({"path": list(names), "prediction": said, "probability": sure})
    return pd.concat([told, pd.DataFrame(probabilities, columns=list(classes))], axis=1)
