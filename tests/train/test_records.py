"""What a stage records of its epochs, and the epochs that it refuses."""

import numpy as np
import pytest
import torch
from test_training import CPU, head, targets, trained, vectors
from torch import nn
from torch.nn import functional as F

from eightfold.core.files import UserError
from eightfold.train.distributed import Ranks
from eightfold.train.records import Records, describe_last_good, record_epoch, refuse_divergence
from eightfold.train.setting import Setting
from eightfold.train.stage_files import BATCH_COLUMNS


def test_records_of_an_epoch_are_means_over_images(tmp_path):
    net = head()
    records = trained(net, tmp_path, batch_size=8)
    assert {tuple(row) for row in records.batches} == {BATCH_COLUMNS}
    for row in records.epochs:
        batches = [b for b in records.batches if b["epoch"] == row["epoch"]]
        assert sum(b["images"] for b in batches) == 21
        assert row["train_loss"] == pytest.approx(sum(b["loss"] * b["images"] for b in batches) / 21)
    net.eval()
    with torch.no_grad():
        logits = net(vectors(range(21, 30), 0))
    expected = F.cross_entropy(logits, torch.from_numpy(targets()[21:])).item()
    assert records.epochs[-1]["valid_loss"] == pytest.approx(expected, rel=1e-5)
    assert records.epochs[-1]["accuracy"] == (logits.argmax(1).numpy() == targets()[21:]).mean()


def test_nothing_to_validate_leaves_the_figures_empty(tmp_path):
    records = trained(head(), tmp_path, valid_rows=np.empty(0, int))
    assert {row["valid_loss"] for row in records.epochs} == {row["accuracy"] for row in records.epochs} == {None}


def test_the_losses_of_validation_rows_after_each_epoch_have_the_mean_that_is_reported(tmp_path):
    net = head()
    records = trained(net, tmp_path)
    assert [losses.mean() for losses in records.valid_losses] == pytest.approx(
        [row["valid_loss"] for row in records.epochs]
    )
    with torch.no_grad():
        logits = net.eval()(vectors(np.arange(21, 30), 0))
    expected = nn.functional.cross_entropy(logits, torch.tensor(targets()[21:30]), reduction="none").numpy()
    np.testing.assert_allclose(records.valid_losses[-1], expected, rtol=1e-5, atol=1e-6)  # of 1 - p, near 0
    assert trained(head(), tmp_path / "all", valid_rows=np.arange(0)).valid_losses == []


def test_an_epoch_that_leaves_no_numbers_is_refused_in_words(tmp_path):
    """Finite in every mini-batch, infinite when validated; and weights that the last update made infinite."""

    def source(rows, view):
        return vectors(rows, view) * (float("inf") if view == 0 else 1)

    with pytest.raises(UserError, match="stage head: the validation loss is nan after epoch 1"):
        trained(head(), tmp_path / "a", source=source)
    with pytest.raises(UserError, match=r"stage head: .* holds numbers that are not finite after epoch 1"):
        options = {"batch_size": 32, "valid_rows": np.empty(0, int)}
        trained(nn.Linear(12, 2), tmp_path / "b", lambda rows, view: vectors(rows, view) * 1e4, lrs=(3e38,), **options)
    assert not (tmp_path / "b" / "resume.safetensors").exists()


def test_an_epoch_s_row_counts_its_own_batches_by_their_images():
    records = Records([{"epoch": 1, "loss": 9.0, "images": 4}])
    records.batches += [{"epoch": 2, "loss": 1.0, "images": 3}, {"epoch": 2, "loss": 2.0, "images": 1}]
    setting = Setting(head(), vectors, targets(), np.arange(9))
    record_epoch(setting, 1, 0, records, 7.5, CPU, Ranks())
    row = {"epoch": 2, "cycle": 1, "train_loss": 1.25, "valid_loss": None, "accuracy": None, "seconds": 7.5}
    assert records.epochs == [row] and list(records.epochs[0]) == list(row)
    assert records.valid_logits is None and records.valid_losses == []


def test_where_the_last_good_state_lies_is_said_only_where_there_is_one(tmp_path):
    resume = tmp_path / "resume.safetensors"
    good = Records(epochs=[{"epoch": 4}])
    assert describe_last_good(good, resume) == describe_last_good(Records(), resume) == "nothing was written"
    resume.touch()
    assert describe_last_good(Records(), resume) == "nothing was written"
    assert describe_last_good(good, resume) == f"the state after epoch 4 is kept: {resume}"


def test_a_stage_that_has_diverged_is_refused_and_a_sound_one_is_not(tmp_path):
    net, resume = nn.Linear(2, 2), tmp_path / "resume.safetensors"
    resume.touch()
    epochs = [{"epoch": 1, "valid_loss": 0.5}, {"epoch": 2, "valid_loss": None}]
    for sound in ([epochs[0]], epochs):
        refuse_divergence(net, Records(epochs=sound), "whole", 0.1, resume)
    with pytest.raises(UserError, match=r"stage whole: the validation loss is inf after epoch 2, learning rate 0\.1"):
        refuse_divergence(
            net, Records(epochs=[epochs[0], {"epoch": 2, "valid_loss": float("inf")}]), "whole", 0.1, resume
        )
    with torch.no_grad():
        net.bias[1] = torch.nan
    with pytest.raises(
        UserError, match=r"bias holds numbers that are not finite after epoch 2.*state after epoch 1 is kept"
    ):
        refuse_divergence(net, Records(epochs=epochs), "whole", 0.1, resume)
