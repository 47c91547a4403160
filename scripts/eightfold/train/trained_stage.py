"""A stage that the loop trains, around the loop: where its rate comes from, its snapshots, its last answers, its record."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from eightfold.core import tensors
from eightfold.train.answers import compute_logits, measure_training_losses
from eightfold.train.records import Records
from eightfold.train.setting import How, Setting
from eightfold.train.stage_record import Judged
from eightfold.train.stages import checkpoint_tensors


def choose_rate(settings: dict, found: dict | None) -> tuple[float | list[float], str]:
    """(learning rate of a stage, where it comes from, in words).

    settings: `lr`, None where the finder has it; `lr_from`, the stage that names it or was swept; `stage`. found: what the
    finder wrote (`lr_finder.suggest`), read where `lr` is None.
    """
    origin = settings["lr_from"]
    if settings["lr"] is not None:
        return settings["lr"], "config" if origin == settings["stage"]["name"] else f"stage {origin}"
    if found["tried"] or found["suggestions"][found["rule"]]:
        return found["lr"], f"lr_find of {origin} ({found['rule']})"
    return found["lr"], f"lr_find of {origin}, whose sweep suggests none: {found['message']}"


class Snapshots:
    """The network at the end of each cycle, in files beside the resume file, where a killed stage finds them again.

    cycles: of the stage; 0 where no snapshots are wanted.
    """

    def __init__(self, resume: Path, identity: str, net: nn.Module, cycles: int):
        self.resume, self.identity, self.net, self.cycles = resume, identity, net, cycles

    def _path(self, cycle: int) -> Path:
        return self.resume.with_suffix(f".snapshot{cycle}")

    def save(self, cycle: int) -> None:
        """Keep the network as it is now, at the end of a cycle (from 1)."""
        if self.cycles:
            tensors.save(self._path(cycle), checkpoint_tensors(self.net), self.identity)

    def load(self) -> dict[str, torch.Tensor]:
        """The tensors of all cycles, as `snapshot<cycle>.<name>`. Raises UserError for a file that is damaged or missing."""
        return {
            f"snapshot{cycle}.{name}": value
            for cycle in range(1, self.cycles + 1)
            for name, value in tensors.load(self._path(cycle), self.identity).items()
        }


def judge_network(setting: Setting, stage: dict, how: How, records: Records) -> Judged:
    """What a trained network answers. Without validation rows nothing is measured: there is nothing to compare it with."""
    if not len(setting.valid_rows):
        return Judged(np.empty((0, len(setting.classes)), np.float32), np.empty(0), None)
    logits = records.valid_logits
    if logits is None:  # weights are averaged, or the run was stopped after its last epoch
        logits = compute_logits(setting.net, setting.source, setting.valid_rows, 0, how.device)
    return Judged(logits, *measure_training_losses(setting, stage, how))


def collect_valid(setting: Setting, records: Records, judged: Judged) -> dict[str, torch.Tensor]:
    """What is kept of the validation rows: rows int64 (n,), logits float32 (n, classes), and losses float32 (epochs, n), nats,
    after each epoch that the network has seen."""
    losses = records.valid_losses[: records.kept]
    by_epoch = np.stack(losses) if losses else np.empty((0, len(setting.valid_rows)), np.float32)
    return {
        "rows": torch.tensor(setting.valid_rows),
        "logits": torch.tensor(judged.valid_logits),
        "losses": torch.tensor(by_epoch),
    }


def describe_training(records: Records, held_back: np.ndarray) -> dict:
    """How the stage went, of the epochs that its network has seen: their number, the last one's training loss (nats), the
    last epoch of each cycle. ``held_back``: the rows held back from a stage that goes on until over-fitting, of which the
    loss (nats) after each cycle is reported."""
    epochs = records.epochs[: records.kept]
    return {
        "epochs": len(epochs),
        "train_loss": epochs[-1]["train_loss"],
        "cycle_ends": list({row["cycle"]: row["epoch"] for row in epochs}.values()),
        "held_back": {"images": len(held_back), "losses": records.best.losses},
    }
