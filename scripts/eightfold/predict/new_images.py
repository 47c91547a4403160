"""Images that no manifest knows: any folder of them, found, decoded, packed, answered as the submission answers, listed."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.files import UserError
from eightfold.core.listing import files_below
from eightfold.core.runtime import log
from eightfold.core.wording import listed
from eightfold.inputs import pixels
from eightfold.predict.answer import tabulate
from eightfold.raw import images
from eightfold.raw.strangers import content_of, counted_by_suffix, not_taken, printable, problem_of_name, suffix_of


def find(folder: str | os.PathLike, suffix: str = "") -> tuple[list[str], list[tuple[str, str]]]:
    """Paths of the images below ``folder`` (known by the usual suffixes of images, or ``suffix``), relative to it and sorted; and
    (path, reason) of what is left out: files of other suffixes, but for tables and notes, and names that no table can carry.

    Raises UserError when there is none, since an empty answer would look like success.
    """
    found = sorted(name for name, _ in files_below(folder))
    known = images.SUFFIXES | {suffix_of("x" + suffix)} - {""}
    known_images = [name for name in found if suffix_of(name) in known]
    unfit = {name: problem for name in known_images if (problem := problem_of_name(name))}
    others = not_taken(found, known)
    if others:
        counts = counted_by_suffix(name for name, _ in others)
        log.warning("Warning: %s: %d files are not taken for images: %s", folder, len(others), counts)
    left_out = [(printable(name), reason) for name, reason in [*unfit.items(), *others]]
    known_images = [name for name in known_images if name not in unfit]
    if not known_images:
        suffixes = ", ".join(sorted(known))
        reasons = listed([f"{name}: {reason}" for name, reason in left_out])
        raise UserError(
            f"{folder}: none of its {len(found)} files is an image ({suffixes}); give a folder that has some{reasons}"
        )
    return known_images, left_out


def pack(
    folder: str | os.PathLike,
    names: Sequence[str],
    target: str | os.PathLike,
    short_side: int,
    threads: int,
    progress: Callable[..., Iterable] = lambda items, *_: items,
    span: images.Span = None,
) -> list[tuple[str, str]]:
    """Decode and resize the images into a packed folder ``target``, in the order of ``names``; ``span`` as in `images`.

    Returns (name, reason) of those that cannot be read: their rows hold no image.
    """
    bad: dict[str, str] = {}

    def read(name: str) -> np.ndarray:
        try:
            image = images.open_image(content_of(Path(folder, name)), span, short_side)
            return pixels.resized(image, short_side)
        except images.BadImage as error:
            bad[name] = str(error)
        except OSError as error:
            bad[name] = f"cannot be read ({error.strerror})"
        return np.empty((0, 0, 3), np.uint8)

    pixels.pack(target, progress(pixels.in_order(read, names, threads), len(names), "new images"))
    return [(name, bad[name]) for name in names if name in bad]


def pack_sizes(
    folder: str | os.PathLike,
    names: Sequence[str],
    target: str | os.PathLike,
    short_sides: Mapping[int, int],
    threads: int,
    progress: Callable[..., Iterable] = lambda items, *_: items,
    span: images.Span = None,
) -> tuple[dict[int, Path], list[tuple[str, str]]]:
    """`pack` for each of the ``short_sides`` (px, by the size that networks see), below ``target``: the folder of each size,
    and what cannot be read. Sizes of one short side share a folder. Raises UserError where no image can be read."""
    for side in sorted(set(short_sides.values())):
        bad = pack(folder, names, Path(target, str(side)), side, threads, progress, span)
    if len(bad) == len(names):
        reasons = listed([f"{name}: {reason}" for name, reason in bad])
        raise UserError(f"{folder}: none of its {len(names)} images can be read; put them right:{reasons}")
    return {size: Path(target, str(side)) for size, side in short_sides.items()}, bad


def tabulate_answers(
    names: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    separator: str | None,
    decisions: np.ndarray,
) -> pd.DataFrame:
    """path, prediction, probability, then a column per class. decisions: what `metrics.decide` says. ``separator``
    None: one label, with its probability; else labels, joined, with the least sure decision among all."""
    if separator is None:
        said, sure = [classes[i] for i in decisions], probabilities[np.arange(len(decisions)), decisions]
    else:
        said = [separator.join(classes[i] for i in np.flatnonzero(row)) for row in decisions]
        sure = np.maximum(probabilities, 1 - probabilities).min(1)
    return tabulate({"path": list(names), "prediction": said, "probability": sure}, probabilities, classes)
