"""The files that a stage leaves hold what they were given, and stage.json identifies those that later stages read."""

import csv
import hashlib
import json
from types import SimpleNamespace

import pandas as pd
import torch
from torch import nn

from eightfold.core import tensors
from eightfold.train.stage_files import BATCH_COLUMNS, StageResult, write_stage

NAMES = {
    "checkpoint": "checkpoint.safetensors",
    "snapshots": "snapshots.safetensors",
    "valid": "valid.safetensors",
    "history": "history.csv",
    "batches": "batches.csv",
    "record": "stage.json",
}
EPOCHS = [{"epoch": 1, "train_loss": 0.25, "valid_loss": None}, {"epoch": 2, "train_loss": 0.1, "valid_loss": 0.3}]
BATCHES = [dict(zip(BATCH_COLUMNS, (step, 1, 1, 0.01, 1 / 3 + step, 4), strict=True)) for step in range(3)]


def written(folder, snapshots: dict, batches: list[dict]) -> tuple[SimpleNamespace, StageResult]:
    made = SimpleNamespace(**{name: folder / file for name, file in NAMES.items()})
    valid = {"rows": torch.tensor([4, 7]), "logits": torch.rand(2, 3)}
    result = StageResult(nn.Linear(5, 3), valid, snapshots, EPOCHS, batches, {"stage": "x", "lr": [0.01]})
    write_stage(made, result, "who made it")
    return made, result


def test_tensors_are_kept_with_the_identity_of_what_made_them(tmp_path):
    snapshots = {"snapshot1.head.bias": torch.rand(3)}
    made, result = written(tmp_path, snapshots, BATCHES)
    wanted = {f"head.{name}": value for name, value in result.network.named_parameters()}
    for path, expected in ((made.checkpoint, wanted), (made.snapshots, snapshots), (made.valid, result.valid)):
        found = tensors.load(path, "who made it")
        assert found.keys() == expected.keys() and all(found[name].equal(value) for name, value in expected.items())


def test_the_record_has_the_digests_of_the_files_beside_it(tmp_path):
    made, _ = written(tmp_path, {}, BATCHES)
    digest, of_snapshots = (
        hashlib.blake2b(path.read_bytes()).hexdigest() for path in (made.checkpoint, made.snapshots)
    )
    identified = {"made_from": "who made it", "digest": digest, "snapshots_digest": of_snapshots}
    assert json.loads(made.record.read_text()) == {"stage": "x", "lr": [0.01], **identified}


def test_tables_have_a_row_for_each_epoch_and_batch_and_their_columns_without_any(tmp_path):
    made, _ = written(tmp_path, {}, BATCHES)
    with open(made.batches, newline="", encoding="utf-8") as file:
        assert [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)] == BATCHES
    history = pd.read_csv(made.history)
    assert history["train_loss"].tolist() == [0.25, 0.1] and history["valid_loss"].isna().tolist() == [True, False]
    made, _ = written(tmp_path / "linear", {}, [])
    assert made.batches.read_text() == ",".join(BATCH_COLUMNS) + "\n"
