"""Images that are there twice: the same bytes, or nearly the same to the eye; and what that spoils.

The hash and its bands are our own on purpose: packages hash one image at a time and leave the search to the caller; ours
hashes the thumbnails that are there already, all at once, and finds every near pair without comparing all.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.files import UserError
from eightfold.raw.images import THUMB

COLUMNS = ["id_a", "id_b", "kind", "distance", "split_a", "split_b", "labels_a", "labels_b", "conflict", "leak"]
COLUMNS += ["row_a", "row_b"]  # of the manifest
DISTANCE = 4  # bits, of 64, in which hashes of near images may differ
LEVELS = 6.0  # mean difference of two thumbnails, of 255, up to which images are the same to the eye
MOST_PAIRS = 100_000


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """dHash: 64 bits (uint64) per thumbnail (n, THUMB, THUMB): is each of 8 x 8 places brighter than its right neighbour?"""
    rows = thumbnails.astype(float).reshape(len(thumbnails), 8, THUMB // 8, THUMB).mean(2)  # (n, 8, THUMB)
    places = np.linspace(0, THUMB - 1, 9).round().astype(int)
    bits = np.diff(rows[:, :, places], axis=2) < 0  # (n, 8, 8)
    return np.packbits(bits.reshape(len(bits), 64), axis=1).view(np.uint64)[:, 0]


def near_pairs(hashes: np.ndarray, most: int) -> Iterable[tuple[int, int, int]]:
    """(a, b, bits that differ), a < b, of hashes that differ in ``most`` bits at most, each pair once.

    Cut into most + 1 bands, two such hashes agree in one band at least: only those are compared. Of equal hashes each
    is paired with the first alone, so that a thousand black images are not a million pairs.
    """
    values, first, place = np.unique(hashes, return_index=True, return_inverse=True)
    for row, number in enumerate(place):
        if first[number] != row:
            yield int(first[number]), row, 0
    bits = np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1)
    seen = set()
    for band in np.array_split(np.arange(64), most + 1):
        buckets = defaultdict(list)
        for number, key in enumerate(np.packbits(bits[:, band], axis=1)):
            buckets[key.tobytes()].append(number)
        for members in buckets.values():
            of = bits[members]
            for i in range(len(members) - 1):
                apart = (of[i + 1 :] != of[i]).sum(1)
                for j in np.flatnonzero(apart <= most):
                    pair = members[i], members[i + 1 + j]
                    if pair not in seen:
                        seen.add(pair)
                        a, b = sorted((int(first[pair[0]]), int(first[pair[1]])))
                        yield a, b, int(apart[j])


def find(table: pd.DataFrame, thumbnails: np.ndarray, most: int = DISTANCE) -> pd.DataFrame:
    """Pairs of a manifest's images as COLUMNS, the identical first. thumbnails (rows, THUMB, THUMB) uint8.

    near: hashes within ``most`` bits, and thumbnails within LEVELS: a hash alone takes one plain image for another.
    conflict: both have labels, and others. leak: one is to be predicted and the other has labels, or one is in a valid
    folder and the other in train.
    """
    sound = np.flatnonzero((table["status"] == "ok").to_numpy())
    first: dict[str, int] = {}
    pairs = []
    for row in sound:
        other = first.setdefault(table["sha256"].iloc[row], int(row))
        if other != row:
            pairs.append((other, int(row), "identical", 0))
    distinct = np.array(sorted(first.values()), int)
    if len(distinct) > 1:
        small = thumbnails[distinct].astype(float)
        for a, b, apart in near_pairs(difference_hash(thumbnails[distinct]), most):
            if np.abs(small[a] - small[b]).mean() <= LEVELS:
                pairs.append((int(distinct[a]), int(distinct[b]), "near", apart))
            if len(pairs) >= MOST_PAIRS:
                break
    order = {"identical": 0, "near": 1}
    cells = table[["id", "split", "labels"]].to_numpy(object)
    rows = []
    for a, b, kind, apart in sorted(pairs, key=lambda pair: (order[pair[2]], pair[3], pair[:2])):
        (id_a, split_a, labels_a), (id_b, split_b, labels_b) = cells[a], cells[b]
        conflict = bool(labels_a and labels_b and labels_a != labels_b)
        rows.append((id_a, id_b, kind, apart, split_a, split_b, labels_a, labels_b, conflict, split_a != split_b, a, b))
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(pairs: pd.DataFrame) -> dict:
    """Counts of pairs by kind, and of the conflicts and leaks among them."""
    counts = {kind: int((pairs["kind"] == kind).sum()) for kind in ("identical", "near")}
    return counts | {name: int(pairs[name].astype(bool).sum()) for name in ("conflict", "leak")}


def read_thumbnails(folder: str | os.PathLike, rows: int) -> np.ndarray:
    """The thumbnails of a written manifest of that many rows. Raises UserError where they are damaged."""
    path = Path(folder, "thumbnails.npy")
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete the folder and run again") from error
    if found.shape != (rows, THUMB, THUMB):
        raise UserError(f"{path}: {len(found)} thumbnails of {rows} images; delete the folder and run again")
    return found
