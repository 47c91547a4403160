"""What is around the loop: where a rate comes from, snapshots, the last answers and the record of a trained stage."""

import copy

import numpy as np
import pytest
import torch
from test_answers import Source
from test_training import CPU, STAGE, head, targets, trained, vectors

from eightfold.core.files import UserError
from eightfold.train.answers import compute_logits
from eightfold.train.records import Records
from eightfold.train.setting import How, Setting
from eightfold.train.trained_stage import Snapshots, choose_rate, collect_valid, describe_training, judge_network

VALID = np.arange(21, 30)
FOUND = {"lr": 0.02, "rule": "minimum", "tried": [], "suggestions": {"minimum": 0.02}, "message": "it falls"}


@pytest.mark.parametrize(
    ("lr", "origin", "found", "source"),
    [
        (0.1, "head", None, "config"),
        ([1e-4, 1e-3, 1e-2], "head", None, "config"),
        (0.1, "earlier", None, "stage earlier"),
        (None, "head", FOUND, "lr_find of head (minimum)"),
        (None, "earlier", FOUND | {"rule": "trials", "tried": [{"lr": 0.02}]}, "lr_find of earlier (trials)"),
        (
            None,
            "head",
            FOUND | {"suggestions": {"minimum": None}},
            "lr_find of head, whose sweep suggests none: it falls",
        ),
    ],
)
def test_a_rate_comes_with_its_source(lr, origin, found, source):
    settings = {"lr": lr, "lr_from": origin, "stage": {"name": "head"}}
    assert choose_rate(settings, found) == (0.02 if lr is None else lr, source)


# ---- snapshots


def test_snapshots_are_the_networks_at_the_ends_of_the_cycles(tmp_path):
    net, ends = head(), []
    kept = Snapshots(tmp_path / "fold0.head.1f.safetensors", "me", net, 2)

    def save(cycle):
        kept.save(cycle)
        ends.append(copy.deepcopy(net.state_dict()))

    trained(net, tmp_path / "stage", snapshot=save)
    found = kept.load()
    assert found.keys() == {f"snapshot{cycle}.head.{name}" for cycle in (1, 2) for name in ends[0]}
    for cycle, end in enumerate(ends, start=1):
        assert all(torch.equal(found[f"snapshot{cycle}.head.{name}"], value) for name, value in end.items())
    # Of the resume file's stem: what forgets that removes them too.
    names = {path.name for path in tmp_path.glob("fold0.head.1f.*")}
    assert names == {"fold0.head.1f.snapshot1", "fold0.head.1f.snapshot2"}
    with pytest.raises(UserError, match="other inputs"):
        Snapshots(kept.resume, "someone else", net, 2).load()


def test_where_none_are_wanted_none_are_written(tmp_path):
    kept = Snapshots(tmp_path / "resume.safetensors", "me", head(), 0)
    kept.save(1)
    assert kept.load() == {} and not list(tmp_path.iterdir())


# ---- the end


def validated(net, source, valid_rows=VALID):
    return Setting(net, source, targets(), np.arange(21), valid_rows, ["a", "b"])


def test_the_answers_of_the_last_epoch_are_taken_where_they_are_the_networks_own():
    net, source, how = head(), Source(0), How(8, 5, CPU)
    setting, stage = validated(net, source), STAGE | {"train": "head"}
    own = np.zeros((9, 2), np.float32)
    judged = judge_network(setting, stage, how, Records(valid_logits=own))
    assert judged.valid_logits is own and judged.training_view == 0 and judged.training_losses.shape == (21,)
    assert [rows for rows, _ in source.asked] == [list(range(21))]
    again = judge_network(setting, stage, how, Records())
    assert np.array_equal(again.valid_logits, compute_logits(net, vectors, setting.valid_rows, 0, CPU))
    assert np.array_equal(again.training_losses, judged.training_losses)


def test_without_validation_rows_nothing_is_measured():
    source = Source(0)
    setting = validated(head(), source, np.empty(0, np.int64))
    judged = judge_network(setting, STAGE, How(8, 5, CPU), Records())
    assert judged.valid_logits.shape == (0, 2) and judged.valid_logits.dtype == np.float32 and source.asked == []
    assert len(judged.training_losses) == 0 and judged.training_view is None
    kept = collect_valid(setting, Records(), judged)
    assert kept["losses"].shape == (0, 0) and kept["rows"].dtype == torch.int64 and kept["logits"].shape == (0, 2)


def test_what_the_network_has_not_seen_is_not_part_of_its_record():
    """A stage that went on until over-fitting ends with the network of an earlier cycle."""
    rows = [{"epoch": n + 1, "cycle": n // 2 + 1, "train_loss": 1 / (n + 1)} for n in range(6)]
    losses = [np.full(9, n, np.float32) for n in range(6)]
    records = Records(epochs=rows, valid_losses=losses, kept=4)
    records.best.losses = [0.5, 0.4, 0.6]
    assert describe_training(records, np.arange(7)) == {
        "epochs": 4,
        "train_loss": 1 / 4,
        "cycle_ends": [2, 4],
        "held_back": {"images": 7, "losses": [0.5, 0.4, 0.6]},
    }
    setting = validated(head(), Source(0))
    judged = judge_network(setting, STAGE | {"train": "head"}, How(8, 5, CPU), records)
    kept = collect_valid(setting, records, judged)
    assert kept["losses"][:, 0].tolist() == [0, 1, 2, 3] and kept["rows"].tolist() == list(range(21, 30))
    records.kept = None
    assert describe_training(records, np.arange(0))["cycle_ends"] == [2, 4, 6]
    assert len(collect_valid(setting, records, judged)["losses"]) == 6
