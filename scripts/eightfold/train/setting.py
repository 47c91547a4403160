"""What a stage is trained on, and how: the few things that the loop and the finder are given."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from eightfold.core.devices import Device


class Setting(NamedTuple):
    """All that a stage is trained on.

    source: rows and a view to the net's inputs. targets: of every row of the manifest, class indices int64 (rows,) or labels
    float32 (rows, classes). ids: of every row. held_back: train rows that nothing is learned from, since they say when a
    stage that goes on until over-fitting ends.
    """

    net: nn.Module
    source: Callable[[np.ndarray, int], torch.Tensor]
    targets: np.ndarray
    train_rows: np.ndarray
    valid_rows: np.ndarray = np.empty(0, np.int64)
    classes: Sequence[str] = ()
    ids: Sequence[str] = ()
    held_back: np.ndarray = np.empty(0, np.int64)


class How(NamedTuple):
    """How every stage of a run is trained. batch_size: images. bn_freeze: BatchNorm of a learning trunk stays in eval mode."""

    batch_size: int
    seed: int
    device: Device
    bn_freeze: bool = False
