"""``until: over_fitting``: a stage goes on, cycle by cycle, while images held back from it still gain; the best is kept."""

import numpy as np
import torch
from torch import nn

from eightfold.core.files import UserError
from eightfold.core.randomness import generator
from eightfold.inputs import stratify

HELD_BACK = 10  # one train image in so many is held back
FEWEST = 20  # images, or groups of images that stay together, of which some can be held back


class Best:
    """The network as it was at the end of the best cycle, by its loss on the images held back.

    losses: nats, of each cycle so far. state: the network's tensors at the end of the best one; empty before the first.
    """

    def __init__(self):
        self.losses: list[float] = []
        self.state: dict[str, torch.Tensor] = {}

    @property
    def cycle(self) -> int:
        """The best cycle, from 1: the first of equals."""
        return int(np.argmin(self.losses)) + 1

    @property
    def over(self) -> bool:
        """Whether the last cycle gained nothing, so that the stage ends."""
        return len(self.losses) > self.cycle if self.losses else False

    def after_cycle(self, net: nn.Module, loss: float) -> None:
        """Note the loss that a cycle ended with, and the network where it is the best so far."""
        self.losses.append(loss)
        if not self.over:
            self.state = {name: value.detach().clone() for name, value in net.state_dict().items()}


def split(targets: np.ndarray, rows: np.ndarray, units: np.ndarray, keys: tuple) -> tuple[np.ndarray, np.ndarray]:
    """(rows to learn from, rows held back) of some train rows: one in HELD_BACK, drawn by ``keys``, the classes spread evenly.

    targets: of every row of the manifest. units: a number per row of the manifest; rows that share it stay together.
    Raises UserError where there are fewer than FEWEST units.
    """
    unit = np.unique(units[rows], return_inverse=True)[1]
    count = len(np.unique(unit))
    if count < FEWEST:
        raise UserError(
            f"until: over_fitting holds back one train image in {HELD_BACK} to see when to stop, and of {count} images (groups of "
            f"images count as one) too few would be left; at least {FEWEST} are needed. Leave `until` out of the recipe"
        )
    key = int(generator(*keys, "held back").integers(2**31))
    fold = stratify.inner(targets[rows], unit, HELD_BACK, key)
    return rows[fold != 0], rows[fold == 0]
