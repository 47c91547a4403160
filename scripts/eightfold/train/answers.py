"""What a network answers while it is trained and when it has been: logits in eval mode, and losses on images of each kind."""

from collections.abc import Callable

import numpy as np
from torch import nn

from eightfold.core.devices import Device
from eightfold.core.randomness import generator
from eightfold.net import inference, scoring
from eightfold.train.distributed import Ranks
from eightfold.train.setting import How, Setting

MOST_EVALUATED = 1000  # training images on which a stage of all layers measures its training loss, at its end


def compute_logits(net: nn.Module, source: Callable, rows: np.ndarray, view: int, device: Device) -> np.ndarray:
    """Logits of rows in eval mode: float32 (rows, classes)."""
    return inference.outputs(net.eval(), source, rows, view, device).numpy()


def measure_training_losses(setting: Setting, stage: dict, how: How) -> tuple[np.ndarray, int]:
    """(loss of each training image evaluated, float64 (images,), nats; the view that they were shown in), in eval mode.

    It is measured as the validation loss is: no dropout, weights that stand still, the plain view. A stage of all layers
    evaluates at most MOST_EVALUATED images, keyed by the seed alone, so that stages share them. Where the cached
    activations of the training rows hold no plain view (augmented heads on a tuned trunk), the stage's first view replaces it:
    augmented images are somewhat harder, so that what is said of a gap is said too seldom rather than too often.
    """
    rows, source, targets = setting.train_rows, setting.source, setting.targets
    if stage["train"] == "all" and len(rows) > MOST_EVALUATED:
        rows = np.sort(generator(how.seed, "training loss").choice(rows, MOST_EVALUATED, replace=False))
    view = 0 if source.holds(rows, 0) else stage["first_view"]
    logits = compute_logits(setting.net, source, rows, view, how.device)
    return scoring.losses(scoring.probabilities_of(logits, targets.ndim == 2), targets[rows]), view


def measure_held_back_loss(setting: Setting, stage: dict, device: Device, ranks: Ranks) -> float:
    """Log loss (nats) of rows held back, in eval mode, by the plain view, or the stage's first where that is not cached."""
    rows, source = setting.held_back, setting.source
    view = 0 if source.holds(rows, 0) else stage["first_view"]
    logits = ranks.together(lambda own: compute_logits(setting.net, source, own, view, device), rows)
    return float(scoring.row_losses(logits, setting.targets[rows]).mean())
