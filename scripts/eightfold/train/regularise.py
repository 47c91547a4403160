"""Options of a stage, off unless asked for: softer targets, mixed images, classes of equal weight.

Pure functions of arrays and of keys (seed, stage, step); `training` calls them in its loop and knows no option.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from eightfold.core.randomness import generator

MOST_WEIGHT = 100.0  # of a class against the mean: one image of a rare class must not be the whole step


def balanced_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Weights that make classes count alike, as scikit-learn's "balanced": n / (classes * images of the class).

    targets (n,): float (classes,); their mean over the images is 1. Several labels, 0/1 (n, classes): (classes, 2),
    of a label's absence and presence. A class without images weighs 1, none more than MOST_WEIGHT.
    """
    if targets.ndim == 1:
        counts, kinds = np.bincount(targets, minlength=classes), classes
    else:
        present = targets.sum(0)
        counts, kinds = np.stack([len(targets) - present, present], 1), 2
    return np.minimum(np.where(counts > 0, len(targets) / (kinds * np.maximum(counts, 1)), 1.0), MOST_WEIGHT)


def classes_of(targets: np.ndarray) -> int:
    """Number of classes among the targets of every row of the manifest, which has each class at least once."""
    return targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats on class indices (n,), or binary cross-entropy on 0/1 targets (n, classes)."""
    if targets.dim() == 1:
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets)


def loss_for(stage: dict, targets: np.ndarray, rows: np.ndarray) -> Callable:
    """(logits (n, classes), targets) -> mean loss over the images, so that parts of a batch add up to the whole.

    The targets given to it: class numbers (n,), or shares (n, classes) where images are mixed or have several
    labels. ``targets`` here: of every row of the manifest; the weights of classes are counted on ``rows``.
    """
    smoothing, classes, weights = stage.get("label_smoothing") or 0.0, classes_of(targets), None
    if stage.get("class_weights", "none") == "balanced":
        weights = torch.tensor(balanced_weights(targets[rows], classes), dtype=torch.float32)

    def of_one(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if weights is None:
            return F.cross_entropy(logits, y, label_smoothing=smoothing)
        y = F.one_hot(y, classes).float() if y.dim() == 1 else y
        y = (1 - smoothing) * y + smoothing / classes
        return -(y * weights.to(logits.device) * logits.log_softmax(1)).sum(1).mean()

    def of_several(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weight = None
        if weights is not None:
            absent, present = weights.to(logits.device).T
            weight = y * present + (1 - y) * absent
        return F.binary_cross_entropy_with_logits(logits, (1 - smoothing) * y + smoothing / 2, weight=weight)

    return of_several if targets.ndim == 2 else of_one


def sampling_weights(targets: np.ndarray) -> np.ndarray:
    """Chance of each image (n,) to be drawn, so that every class is drawn as often; of several labels the rarest counts."""
    if targets.ndim == 1:
        rarity = 1 / np.bincount(targets)[targets]
    else:
        hot = np.hstack([targets, targets.sum(1, keepdims=True) == 0])  # images without a label are a kind too
        rarity = (hot / np.maximum(hot.sum(0), 1)).max(1)
    return rarity / rarity.sum()


def box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a rectangle of ``share`` of the area and the image's aspect, cut where it leaves the image."""
    high, wide = (round(side * share**0.5) for side in (height, width))
    y, x = rng.integers(height), rng.integers(width)
    return (
        slice(max(0, y - high // 2), min(height, y - high // 2 + high)),
        slice(max(0, x - wide // 2), min(width, x - wide // 2 + wide)),
    )


def mixed(
    inputs: torch.Tensor, targets: torch.Tensor, stage: dict, classes: int, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch whose images are each mixed with another of it, and their targets as shares (n, classes).

    mixup (Zhang 2017) averages two images, cutmix (Yun 2019) pastes a rectangle; both given, each step takes one of
    them. The numbers are the parameter of the beta distribution of shares. Without either, the batch as it is.
    """
    alphas = {kind: stage[kind] for kind in ("mixup", "cutmix") if stage.get(kind)}
    if not alphas:
        return inputs, targets
    rng = generator(seed, "mix", stage["name"], step)
    kind = sorted(alphas)[rng.integers(len(alphas))]
    share = float(rng.beta(alphas[kind], alphas[kind]))
    other = torch.from_numpy(rng.permutation(len(inputs))).to(inputs.device)
    if kind == "mixup":
        inputs = share * inputs + (1 - share) * inputs[other]
    else:
        height, width = inputs.shape[2:]
        rows, columns = box(height, width, 1 - share, rng)
        pasted = inputs.clone()
        pasted[:, :, rows, columns] = inputs[other][:, :, rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        inputs = pasted
    hot = F.one_hot(targets, classes).float() if targets.dim() == 1 else targets
    return inputs, share * hot + (1 - share) * hot[other]
