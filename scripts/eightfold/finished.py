"""A finished run's networks, and what they say together: the same average that the run's own predictions are made by."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eightfold import nets, prediction, stages
from eightfold.files import checked, read_json


class Member(NamedTuple):
    """Where a network of the ensemble lies: ``prefix`` names a snapshot ("snapshot1.") within the files, "" the end."""

    fold: int  # its place among the folds
    trunk: str
    trunk_prefix: str
    head: str
    head_prefix: str


def members(given, train: str) -> list[Member]:
    """The networks of all folds. ``given``: lists of files, one a fold: trunks, trunk_identities, heads,
    head_identities, snapshots (empty where the run does not average them). ``train``: head or all, of the last stage.

    Raises UserError for a damaged file.
    """
    result = []
    snapshots = list(given.snapshots) or [None] * len(given.heads)
    files = zip(given.trunks, given.trunk_identities, given.heads, given.head_identities, snapshots, strict=True)
    for fold, (trunk, trunk_identity, head, head_identity, snapshot) in enumerate(files):
        checked(trunk, read_json(trunk_identity))
        checked(head, read_json(head_identity))
        if snapshot is None:
            result.append(Member(fold, trunk, "", head, ""))
            continue
        told = read_json(head_identity)
        checked(snapshot, {"digest": told["snapshots_digest"]})
        for cycle in range(1, told["snapshots"] + 1):
            name = f"snapshot{cycle}."
            # A head stage's snapshots hold no trunk: that is the earlier stage's.
            own = (snapshot, name) if train == "all" else (trunk, "")
            result.append(Member(fold, *own, snapshot, name))
    return result


def networks(found: Sequence[Member], arch: str, classes: int, features: int, seed: int) -> Iterator[nets.Net]:
    """One network after another, in evaluation mode."""
    for member in found:
        net = stages.network(arch, classes, features, seed)
        nets.load_part(net.trunk, member.trunk, f"{member.trunk_prefix}trunk")
        nets.load_part(net.head, member.head, f"{member.head_prefix}head")
        yield net.eval()


def average(logits: Sequence[np.ndarray], found: Sequence[Member], single_label: bool, mean: str, weights: str):
    """Logits of each member (1 + views, n, classes) to probabilities (n, classes): the mean over views, then over a
    fold's snapshots, then over folds."""
    each = [prediction.combine(of_member, single_label, mean, weights) for of_member in logits]
    folds = sorted({member.fold for member in found})
    of_fold = [np.mean([p for p, member in zip(each, found, strict=True) if member.fold == fold], 0) for fold in folds]
    return np.mean(of_fold, 0)
