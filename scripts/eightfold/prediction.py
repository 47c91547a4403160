"""Prediction: logits of every view, then one table of probabilities."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from eightfold import inference, tensors
from eightfold.devices import Device
from eightfold.files import UserError
from eightfold.metrics import probabilities_of
from eightfold.runtime import counted
from eightfold.shards import BATCH


def logits_of_views(
    net: nn.Module,
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    views: int,
    device: Device,
    classes: int = 0,
) -> torch.Tensor:
    """Logits of the plain view and of views 1 to ``views``: float32 (1 + views, rows, classes).

    ``classes`` need only be told where there may be no rows.
    """
    net = net.to(device.device, memory_format=torch.channels_last).eval()
    batches = (1 + views) * -(-len(rows) // BATCH)
    with counted(batches, "prediction", " batches") as told:
        return torch.stack(
            [inference.outputs(net, source, rows, view, device, classes, told) for view in range(1 + views)]
        )


def logits_of_heads(
    trunk: nn.Module,
    heads: Sequence[nn.Module],
    source: Callable[[np.ndarray, int], torch.Tensor],
    rows: np.ndarray,
    views: int,
    device: Device,
) -> torch.Tensor:
    """Logits of several heads on one trunk, which sees each view once: float32 (heads, 1 + views, rows, classes)."""
    trunk = trunk.to(device.device, memory_format=torch.channels_last).eval()
    heads = [head.to(device.device).eval() for head in heads]
    logits = torch.empty(len(heads), 1 + views, len(rows), heads[0][-1].out_features)
    with counted((1 + views) * -(-len(rows) // BATCH), "prediction", " batches") as told:
        for view in range(1 + views):
            start = 0
            for pooled in inference.batches(trunk, source, rows, view, device, told):
                end = start + len(pooled)
                with torch.inference_mode(), device.autocast():
                    inputs = pooled.to(device.device)
                    for head, found in zip(heads, logits, strict=True):
                        found[view, start:end] = head(inputs).float().cpu()
                start = end
    return logits


def join(paths: Sequence[str | os.PathLike], rows: np.ndarray, identity: str) -> torch.Tensor:
    """Logits (members, 1 + views, rows, classes) of ``rows``, from files that hold consecutive parts of them."""
    parts = [tensors.load(path, identity) for path in paths]
    if torch.cat([part["rows"] for part in parts]).tolist() != rows.tolist():
        raise UserError(f"{Path(paths[0]).parent}: the parts are not those of these images; delete it and run again")
    return torch.cat([part["logits"] for part in parts], 2)


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


def combine(logits: np.ndarray, single_label: bool, average: str, weights: str) -> np.ndarray:
    """Logits of views (1 + views, n, classes) to probabilities (n, classes)."""
    return mean_members(
        probabilities_of(logits, not single_label), view_weights(len(logits) - 1, weights), average, single_label
    )


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
