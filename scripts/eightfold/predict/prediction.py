"""Prediction: logits of every view, then one table of probabilities."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from eightfold.core import tensors
from eightfold.core.devices import Device
from eightfold.core.files import UserError
from eightfold.core.runtime import counted, log
from eightfold.core.shards import BATCH
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.net import inference
from eightfold.predict import finished
from eightfold.predict.finished import Kind, Network


def choose_rows(table: pd.DataFrame, folds: str | os.PathLike, split: str, fold: str) -> np.ndarray:
    """The rows of the manifest's ``table`` that a fold predicts: those it holds out (split "valid") or the test images.

    A test image that cannot be read has no view; it gets the class prior when predictions are combined. folds: folds.csv.
    """
    if split == "test":
        return table.index[(table["split"] == "test") & (table["status"] == "ok")].to_numpy()
    return dataset.train_valid_rows(dataset.read_folds(folds), fold)[1]


def get_views(
    folders: Mapping[int, str | os.PathLike], augmentation: Mapping, seed: int, weights: Mapping, device: Device
) -> Callable[[int], Views]:
    """A function that gives the views of a size (px). folders: of the packed pixels for each size. weights: weights.json's."""

    def of_size(size: int) -> Views:
        return Views(Pixels(folders[size]), size, augmentation, seed, weights["mean"], weights["std"], device)

    return of_size


def logits_of_heads(
    trunk: nn.Module,
    heads: Sequence[nn.Module],
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    views: int,
    device: Device,
) -> list[torch.Tensor]:
    """Logits of heads on one trunk, which sees each view once: for each head float32 (views, rows, classes).

    views: 1 is the plain view alone; more adds the random views 1, 2, ...
    """
    trunk = trunk.to(device.device, memory_format=torch.channels_last).eval()
    heads = [head.to(device.device).eval() for head in heads]
    found: list[list[list[torch.Tensor]]] = [[] for _ in heads]
    with counted(views * -(-len(rows) // BATCH), "prediction", " batches") as advance:
        for view in range(views):
            for of_head in found:
                of_head.append([])
            for pooled in inference.batches(trunk, source, rows, view, device, advance):
                with torch.inference_mode(), device.autocast():
                    inputs = pooled.to(device.device)
                    for head, of_head in zip(heads, found, strict=True):
                        of_head[-1].append(head(inputs).float().cpu())
    return [torch.stack([torch.cat(of_view) for of_view in of_head]) for of_head in found]


def logits_of_networks(
    networks: Sequence[Network],
    kind: Kind,
    views_of: Mapping[tuple[str, str], int],
    source_of: Callable[[int], Callable],
    rows: np.ndarray,
    device: Device,
) -> dict[str, torch.Tensor]:
    """Logits of each network by its key: float32 (views, rows, classes).

    views_of: how many views each network, (stage, name), sees. source_of: gives the source of views of a size (px).
    """
    found = {}
    for group in finished.group_by_trunk(networks):
        views = [views_of[network.stage, network.name] for network in group]
        if not len(rows):
            found |= {n.key: torch.empty(seen, 0, kind.classes) for n, seen in zip(group, views, strict=True)}
            continue
        trunk, heads = finished.load_trunk_and_heads(group, kind)
        log.info("%s: %d images, %d view(s)", ", ".join(n.key for n in group), len(rows), max(views))
        logits = logits_of_heads(trunk, heads, source_of(group[0].size), rows, max(views), device)
        found |= {n.key: of_head[:seen] for n, of_head, seen in zip(group, logits, views, strict=True)}
    return found


def join(paths: Sequence[str | os.PathLike], rows: np.ndarray, identity: str) -> dict[str, torch.Tensor]:
    """Logits by key (views, rows, classes) of ``rows``, from files that hold consecutive parts of them."""
    parts = [tensors.load(path, identity) for path in paths]
    if torch.cat([part["rows"] for part in parts]).tolist() != rows.tolist():
        raise UserError(f"{Path(paths[0]).parent}: the parts are not those of these images; delete it and run again")
    return {key: torch.cat([part[key] for part in parts], 1) for key in parts[0] if key != "rows"}


def view_weights(views: int, kind: str) -> np.ndarray:
    """Weights of the plain view and of ``views`` augmented ones; they sum to 1.

    equal: all alike, as in 0.7 (0.2 each for 4 views). plain_quarter: fastai 2's 0.25 for the plain view and 0.75
    shared by the others.
    """
    if kind == "equal" or views == 0:
        return np.full(1 + views, 1 / (1 + views))
    return np.array([0.25, *[0.75 / views] * views])


def mean_probabilities(probabilities: np.ndarray, weights: Sequence[float], kind: str) -> np.ndarray:
    """Weighted mean over the first axis, arithmetic or geometric: (members, n, classes) -> (n, classes), rows as given.

    The geometric mean is the exponential of the mean log-probability; its rows are rescaled to sum to what they did.
    """
    weights = np.asarray(weights)[:, None, None]
    if kind == "arithmetic":
        return (probabilities * weights).sum(0)
    mean = np.exp((np.log(np.maximum(probabilities, 1e-300)) * weights).sum(0))
    return mean


def mean_members(probabilities: np.ndarray, weights: Sequence[float], average: str, single_label: bool) -> np.ndarray:
    """`mean_probabilities`, with rows of a single-label job summing to 1 and, geometric, labels to p / (p + q)."""
    mean = mean_probabilities(probabilities, weights, average)
    if average == "geometric":
        if single_label:
            return mean / mean.sum(-1, keepdims=True)
        other = mean_probabilities(1 - probabilities, weights, average)
        return mean / (mean + other)
    return mean


def class_prior(targets: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class among targets (n,) or (n, classes): what is said of an image that cannot be read."""
    if targets.ndim == 1:
        return np.bincount(targets, minlength=classes) / len(targets)
    return targets.mean(0)
