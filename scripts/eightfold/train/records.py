"""What a stage records while it is trained: a row per mini-batch, a row per epoch, and whether it has diverged."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from eightfold.core.devices import Device
from eightfold.core.files import UserError
from eightfold.core.runtime import log
from eightfold.net import scoring
from eightfold.train.answers import compute_logits
from eightfold.train.distributed import Ranks
from eightfold.train.setting import Setting
from eightfold.train.stopping import Best


@dataclass
class Records:
    """What a stage has recorded so far: a row per mini-batch and a row per epoch.

    valid_logits: of the validation rows, float32 (rows, classes), by the network as it ended; None where nothing computed them.
    valid_losses: the loss of each validation row (nats), float32 (rows,), after each epoch; empty without such rows.
    best: of a stage that goes on until over-fitting, what it saw after each cycle. kept: the epochs that the network
    which the stage ends with has seen; None where that is all of them.
    """

    batches: list[dict] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    valid_logits: np.ndarray | None = None
    valid_losses: list[np.ndarray] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    kept: int | None = None


def record_epoch(
    setting: Setting, epoch: int, cycle: int, records: Records, seconds: float, device: Device, ranks: Ranks
) -> None:
    """Validate the network as an epoch (from 0) ends, and add the epoch's row: its mean training loss over images, and the
    validation loss (nats) and accuracy, None without validation rows. seconds: that the epoch took to train."""
    targets, valid_rows = setting.targets, setting.valid_rows
    of_epoch = [row for row in records.batches if row["epoch"] == epoch + 1]
    # Each batch counts by its images, so that the figure is a mean over images.
    train_loss = sum(row["loss"] * row["images"] for row in of_epoch) / sum(row["images"] for row in of_epoch)
    row = {"epoch": epoch + 1, "cycle": cycle + 1, "train_loss": train_loss, "valid_loss": None, "accuracy": None}
    line = f"epoch {epoch + 1}: train loss {train_loss:.4f}"
    if len(valid_rows):
        logits = ranks.together(lambda rows: compute_logits(setting.net, setting.source, rows, 0, device), valid_rows)
        records.valid_logits = logits
        probabilities = scoring.probabilities_of(logits, targets.ndim == 2)
        records.valid_losses.append(scoring.losses(probabilities, targets[valid_rows]).astype(np.float32))
        scores = scoring.figures(probabilities, targets[valid_rows])
        row.update(valid_loss=scores["log_loss"], accuracy=scores["accuracy"])
        line += f", valid loss {row['valid_loss']:.4f}, accuracy {row['accuracy']:.4f}"
    row["seconds"] = seconds
    records.epochs.append(row)
    log.info("%s, %.1f s", line, seconds)


def refuse_divergence(net: nn.Module, records: Records, stage: str, lr: float, resume: Path) -> None:
    """Raise UserError when an epoch leaves a network that is of no use, though each mini-batch's loss was a number.

    The last update shows in no loss of training, and BatchNorm hides weights that have exploded until eval mode.
    """
    lost = [name for name, value in net.state_dict().items() if not value.isfinite().all()]
    last, good = records.epochs[-1], Records(records.batches, records.epochs[:-1])
    loss = last["valid_loss"]
    if not lost and (loss is None or math.isfinite(loss)):
        return
    what = f"the validation loss is {loss}" if not lost else f"{lost[0]} holds numbers that are not finite"
    raise UserError(
        f"stage {stage}: {what} after epoch {last['epoch']}, learning rate {lr:.3g}: the training has diverged; "
        f"{describe_last_good(good, resume)}. Lower this stage's lr"
    )


def describe_last_good(records: Records, resume: Path) -> str:
    """Where the last good state of a stage lies, when it has gone wrong."""
    done = records.epochs[-1]["epoch"] if records.epochs else 0
    return f"the state after epoch {done} is kept: {resume}" if done and resume.exists() else "nothing was written"
