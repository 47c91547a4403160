"""Mini-batches: the rows of each in an epoch, and the inputs and targets of one."""

from collections.abc import Callable

import numpy as np
import torch

from eightfold.config import schedules
from eightfold.core.randomness import generator
from eightfold.train import regularise
from eightfold.train.distributed import Ranks


def draw_batches(
    rows: np.ndarray, batch_size: int, seed: int, stage: str, epoch: int, weights: np.ndarray | None = None
) -> list[np.ndarray]:
    """The rows of an epoch in mini-batches, shuffled by (seed, stage, epoch) alone; with ``weights``, which sum to 1, drawn by them.

    Their sizes differ by one at most (`schedules.batches_of`).
    """
    source = generator(seed, "order", stage, epoch)
    order = source.permutation(rows) if weights is None else source.choice(rows, len(rows), p=weights)
    return np.array_split(order, schedules.batches_of(len(order), batch_size))


def prepare_batch(
    rows: np.ndarray,
    source: Callable[[np.ndarray, int], torch.Tensor],
    view: int,
    all_targets: torch.Tensor,
    stage: dict,
    seed: int,
    step: int,
    ranks: Ranks,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of this process's part of a mini-batch, mixed as the stage asks for.

    rows: of the whole mini-batch. source, all_targets: as in `Setting`, the targets on the device. seed, step: keys of the
    mixing.
    """
    part = ranks.part(len(rows))
    if ranks.count == 1 or stage.get("mixup") or stage.get("cutmix"):  # an image's partner may be another process's
        inputs, wanted = source(rows, view), all_targets[torch.from_numpy(rows)]
        classes = regularise.classes_of(all_targets)
        inputs, wanted = regularise.mixed(inputs, wanted, stage, classes, seed, step)
        return inputs[part], wanted[part]
    own = rows[part]
    inputs = source(own if len(own) else rows[:1], view)[: len(own)]
    return inputs, all_targets[torch.from_numpy(own)]
