"""The files that a stage leaves, whether the loop trained its network or a linear layer was fitted."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from eightfold.core import tensors
from eightfold.core.files import file_digest, write_json, write_table
from eightfold.train.stages import checkpoint_tensors

BATCH_COLUMNS = ("step", "epoch", "cycle", "lr", "loss", "images")


class StageResult(NamedTuple):
    """All that a stage leaves.

    network: what it learned. valid: of the validation rows, at least `rows`, int64 (n,), and `logits`, float32 (n, classes).
    snapshots: tensors as `trained_stage.Snapshots.load` gives them, empty where none are kept. epochs: a row each.
    batches: a row per mini-batch, of BATCH_COLUMNS; empty for a linear stage. record: stage.json without its identity and digests.
    """

    network: nn.Module
    valid: Mapping[str, torch.Tensor]
    snapshots: Mapping[str, torch.Tensor]
    epochs: Sequence[dict]
    batches: Sequence[dict]
    record: dict


def write_stage(made, result: StageResult, identity: str) -> None:
    """Write the files of a stage. ``made`` are the rule's named outputs, ``identity`` the digest of what made them.

    The record comes last, with the digests of the checkpoint and of the snapshots, by which later stages check these.
    """
    tensors.save(made.valid, result.valid, identity)
    tensors.save(made.checkpoint, checkpoint_tensors(result.network), identity)
    tensors.save(made.snapshots, result.snapshots, identity)
    write_table(made.history, pd.DataFrame(result.epochs))
    write_table(made.batches, pd.DataFrame(result.batches, columns=BATCH_COLUMNS))
    digests = {"digest": file_digest(made.checkpoint), "snapshots_digest": file_digest(made.snapshots)}
    write_json(made.record, result.record | {"made_from": identity} | digests)
