"""What stage.json says of every stage, whether the loop trained its network or a linear layer was fitted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eightfold.core import software
from eightfold.core.devices import Device
from eightfold.net import scoring


class Judged(NamedTuple):
    """What a stage's network answers when the stage has ended, in eval mode.

    valid_logits: of the validation rows in the plain view, float32 (rows, classes). training_losses: of training images,
    float64 (images,), nats; empty where they are not measured. training_view: the view that these were shown in, 0 the
    plain one; None where they are not measured.
    """

    valid_logits: np.ndarray
    training_losses: np.ndarray
    training_view: int | None


def describe_stage(
    stage: dict, fold: str, device: Device, train_rows: Sequence[int], valid_rows: Sequence[int]
) -> dict:
    """Which stage it was, of which fold, on how many images it learned, and what computed it."""
    return {
        "stage": stage["name"],
        "fold": fold,
        "size": stage["size"],
        "train": stage["train"],
        "precision": device.precision,
        "device": device.device.type,
        "versions": software.versions(),
        "images": {"train": len(train_rows), "valid": len(valid_rows)},
    }


def describe_judged(judged: Judged, wanted: np.ndarray) -> dict:
    """How good the network is. ``wanted``: the targets of the validation rows, as in `Setting`.

    metrics: `scoring.figures` of the validation rows; empty without any. train_loss_eval, its standard error and its view:
    the loss on training images, measured as the validation loss is; None where it is not measured.
    """
    metrics = {}
    if len(wanted):
        metrics = scoring.figures(scoring.probabilities_of(judged.valid_logits, wanted.ndim == 2), wanted)
    loss, error = scoring.mean_and_error(judged.training_losses)
    return {
        "train_loss_eval": loss,
        "train_loss_eval_se": error,
        "train_images_evaluated": len(judged.training_losses),
        "train_view_evaluated": judged.training_view,
        "metrics": metrics,
    }
