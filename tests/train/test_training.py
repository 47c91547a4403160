"""The training loop: what it computes, in which order, and that stopping and going on changes nothing."""

import math
import os
import signal
import sys

import numpy as np
import pytest
import torch
from torch import nn

from eightfold.config import schedules
from eightfold.core import runtime, tensors
from eightfold.core.devices import Device, device
from eightfold.core.files import UserError
from eightfold.inputs import activations
from eightfold.inputs.sources import Activations
from eightfold.net import heads, nets, scoring, starting_weights
from eightfold.train import stages, training
from eightfold.train.answers import compute_logits
from eightfold.train.batches import draw_batches
from eightfold.train.setting import How, Setting

CPU = Device(torch.device("cpu"), torch.float32)
STAGE = {"name": "head", "augment": True, "first_view": 1, "cycles": 2, "cycle_len": 1, "cycle_mult": 2}
PLAIN = {**STAGE, "augment": False}


def vectors(rows, view):
    """Inputs that are a pure function of row and view: float32 (rows, 12)."""
    return torch.stack(
        [torch.randn(12, generator=torch.Generator().manual_seed(1000 * view + int(row))) for row in rows]
    )


def images(rows, view):
    """The same for images: float32 (rows, 3, 48, 48)."""
    parts = [
        torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(1000 * view + int(row))) + (int(row) % 2)
        for row in rows
    ]
    return torch.stack(parts)


def targets(n=30):
    return np.arange(n) % 2


def trained(net, tmp_path, source=vectors, stage=STAGE, lrs=(0.05,), batch_size=8, seed=5, y=None, **options):
    """Records of a stage on rows 0-20, validated on 21-29."""
    y = targets() if y is None else y
    options = {"resume": tmp_path / "resume.safetensors", "identity": "me", **options}
    rows = options.pop("train_rows", np.arange(21)), options.pop("valid_rows", np.arange(21, 30))
    names = {"ids": options.pop("ids", ()), "held_back": options.pop("held_back", np.arange(0))}
    how = How(batch_size, seed, CPU, options.pop("bn_freeze", False))
    return training.train(Setting(net, source, y, *rows, **names), stage, lrs, how, **options)


def head(seed=1, classes=2):
    return heads.head(12, classes, seed)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def without_seconds(records):
    epochs = [{key: value for key, value in row.items() if key != "seconds"} for row in records.epochs]
    return records.batches, epochs, [losses.tolist() for losses in records.valid_losses]


# ---- what is computed


def test_a_head_on_cached_activations_is_the_head_trained_through_the_frozen_trunk(tmp_path):
    trunk, _, _ = starting_weights.pretrained("shufflenet_v2_x0_5", "none", seed=2)
    rows, views = np.arange(30), [0, 1, 2, 3]
    cached = activations.compute(trunk, images, rows, views, CPU)
    activations.write(tmp_path / "views.safetensors", rows, cached, "made by this test")
    alone = heads.head(2048, 2, 7)
    first = trained(alone, tmp_path, source=Activations([tmp_path / "views.safetensors"], CPU))

    net = nets.Net(trunk, heads.head(2048, 2, 7))
    for parameter in net.trunk.parameters():
        parameter.requires_grad = False
    frozen = {name: value.clone() for name, value in net.trunk.state_dict().items()}
    second = trained(net, tmp_path / "through", source=images, lrs=(0, 0, 0.05))

    for name, value in net.trunk.state_dict().items():
        assert torch.equal(value, frozen[name]), name
    for name, value in net.head.state_dict().items():
        # The activations come of a trunk whose BatchNorm is merged into its convolutions: equal up to rounding, which
        # may take a unit across the edge of its ReLU.
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-2, atol=1e-3)
    losses = [[row["loss"] for row in records.batches] for records in (first, second)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert max(losses[0]) - min(losses[0]) > 0.05  # it did learn something


def test_nothing_reads_memory_that_it_has_not_written(tmp_path):
    """devices.device() leaves new memory as it is; filled with NaN, as torch would, a stage must come to the same bytes."""
    nets_by_fill = []
    for fill in (True, False):
        torch.set_deterministic_debug_mode("error")
        torch.utils.deterministic.fill_uninitialized_memory = fill
        try:
            trunk, _, _ = starting_weights.pretrained("shufflenet_v2_x0_5", "none", seed=2)
            net = nets.Net(trunk, heads.head(2048, 2, 7))
            trained(net, tmp_path / str(fill), source=images, stage=PLAIN, lrs=(0.001, 0.01, 0.05))
        finally:
            torch.set_deterministic_debug_mode("default")
        nets_by_fill.append(net)
    assert same(*nets_by_fill) and all(value.isfinite().all() for value in net.state_dict().values())
    with device("cpu", "float32"):
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert torch.get_deterministic_debug_mode() == 2


def test_the_update_is_momentum_sgd_by_hand(tmp_path):
    """A linear model in numpy, float64: momentum 0.9, no Nesterov, no decay, a rate of its own for each step."""
    net = nn.Linear(12, 2)
    weight, bias = net.weight.detach().double().numpy().copy(), net.bias.detach().double().numpy().copy()
    records = trained(net, tmp_path, batch_size=6)
    lengths, step = [1, 2], 0
    momentum_w, momentum_b = np.zeros_like(weight), np.zeros_like(bias)
    for epoch in range(3):
        for rows in draw_batches(np.arange(21), 6, 5, "head", epoch):
            x, y = vectors(rows, 1 + epoch).double().numpy(), targets()[rows]
            logits = x @ weight.T + bias
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            assert records.batches[step]["loss"] == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), rel=1e-5)
            p[np.arange(len(y)), y] -= 1
            momentum_w = 0.9 * momentum_w + p.T @ x / len(y)
            momentum_b = 0.9 * momentum_b + p.mean(0)
            lr = 0.05 * schedules.lr_factor(step, 4, lengths)
            assert records.batches[step]["lr"] == pytest.approx(lr)
            weight, bias, step = weight - lr * momentum_w, bias - lr * momentum_b, step + 1
    assert step == len(records.batches) == 12
    np.testing.assert_allclose(net.weight.detach().numpy(), weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.bias.detach().numpy(), bias, rtol=1e-4, atol=1e-6)


def test_several_labels_an_image(tmp_path):
    hot = np.stack([targets(), 1 - targets(), np.arange(30) % 3 == 0], 1).astype(np.float32)
    records = trained(head(classes=3), tmp_path, y=hot)
    logits = torch.zeros(9, 3)
    assert 0 < records.epochs[-1]["valid_loss"] < 2 and 0 <= records.epochs[-1]["accuracy"] <= 1
    assert scoring.probabilities_of(logits.numpy(), multi_label=True) == pytest.approx(np.full((9, 3), 0.5))


def test_the_rate_of_each_mini_batch_is_the_formula(tmp_path):
    records = trained(head(), tmp_path, lrs=(0.08,), batch_size=6)  # 21 rows: 4 batches
    rates = [row["lr"] for row in records.batches]
    first = [0.08 / 2 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    second = [0.08 / 2 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert rates == pytest.approx([0.0008, *first[1:], *second])
    assert [row["cycle"] for row in records.batches] == [1] * 4 + [2] * 8
    assert [row["epoch"] for row in records.epochs] == [1, 2, 3]


def test_views_follow_the_epochs(tmp_path):
    seen = []

    def source(rows, view):
        seen.append(view)
        return vectors(rows, view)

    no_valid = {"source": source, "valid_rows": np.empty(0, int)}
    trained(head(), tmp_path, stage={**STAGE, "first_view": 4}, **no_valid)
    assert seen == [4] * 3 + [5] * 3 + [6] * 3
    seen.clear()
    trained(head(), tmp_path / "plain", stage=PLAIN, **no_valid)
    assert seen == [0] * 9


def test_a_stage_below_its_floor_of_steps_repeats_its_views(tmp_path):
    seen, snapshots = [], []

    def source(rows, view):
        seen.append(view)
        return vectors(rows, view)

    stage = {**STAGE, "min_steps": 10, "first_view": 4}  # 3 epochs of 3 batches are 9 steps
    options = {"source": source, "stage": stage, "valid_rows": np.empty(0, int), "snapshot": snapshots.append}
    records = trained(head(), tmp_path, **options)
    assert seen == [view for view in (4, 5, 6, 4, 5, 6) for _ in range(3)]
    assert [row["epoch"] for row in records.epochs] == [1, 2, 3, 4, 5, 6] and snapshots == [1, 2]
    assert [row["cycle"] for row in records.epochs] == [1, 1, 2, 2, 2, 2]


def test_dropout_does_not_depend_on_the_random_state_and_leaves_it_alone(tmp_path):
    one, other = head(), head()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    trained(one, tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    trained(other, tmp_path / "other")
    assert same(one, other)
    another = head()
    trained(another, tmp_path / "another", seed=6)
    assert not same(one, another)


def test_one_training_image_is_refused(tmp_path):
    with pytest.raises(UserError, match="stage head: 1 training images; at least 2"):
        trained(head(), tmp_path, train_rows=np.arange(1))


# ---- stop and go on


class Stop(Exception):
    pass


@pytest.mark.parametrize(("step", "least"), [*((step, 0) for step in range(9)), (8, 10), (14, 10)])
def test_broken_off_at_any_step_and_resumed_it_ends_in_the_same_bits(tmp_path, step, least):
    whole, snapshots, stage = head(), [], {**STAGE, "min_steps": least}
    expected = trained(whole, tmp_path / "whole", snapshot=snapshots.append, stage=stage)
    assert snapshots == [1, 2]
    calls = 0

    def breaking(rows, view):
        nonlocal calls
        if view > 0:
            if calls == step:
                raise Stop
            calls += 1
        return vectors(rows, view)

    with pytest.raises(Stop):
        trained(head(), tmp_path, source=breaking, stage=stage)
    resumed = head(seed=99)  # what it starts from no longer matters once an epoch is saved
    if step < 3:
        resumed = head()
    found = trained(resumed, tmp_path, stage=stage)
    assert same(resumed, whole) and without_seconds(found) == without_seconds(expected)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", range(9))
def test_asked_to_end_at_any_step_it_saves_that_step(tmp_path, monkeypatch, step, asked):
    whole = head()
    expected = trained(whole, tmp_path / "whole")
    calls = 0

    def asking(rows, view):
        nonlocal calls
        if view > 0:
            if calls == step:
                os.kill(os.getpid(), asked)
            calls += 1
        return vectors(rows, view)

    monkeypatch.setattr(runtime, "_terminated", False)
    before = signal.signal(asked, runtime._on_sigterm)
    try:
        with pytest.raises(SystemExit) as end:
            trained(head(), tmp_path, source=asking)
    finally:
        signal.signal(asked, before)
    assert end.value.code == 143
    assert tensors.notes(tmp_path / "resume.safetensors")["step"] == step + 1
    monkeypatch.setattr(runtime, "_terminated", False)
    resumed = head(seed=99)
    found = trained(resumed, tmp_path)
    assert same(resumed, whole) and without_seconds(found) == without_seconds(expected)


def test_a_table_of_a_stage_that_was_resumed_has_its_columns_in_order(tmp_path):
    """Kept in JSON with sorted keys, a resumed stage's columns were in another order."""
    whole = trained(head(), tmp_path / "whole")
    with pytest.raises(SystemExit):
        trained(head(), tmp_path, snapshot=lambda cycle: sys.exit(1) if cycle == 2 else None)
    resumed = trained(head(), tmp_path)
    assert [list(row) for row in resumed.batches] == [list(row) for row in whole.batches]
    assert [list(row) for row in resumed.epochs] == [list(row) for row in whole.epochs]


def test_a_resume_file_of_something_else_is_refused(tmp_path):
    trained(head(), tmp_path)
    with pytest.raises(UserError, match=r"resume\.safetensors: made from other inputs"):
        trained(head(), tmp_path, identity="someone else")


def test_snapshots_are_taken_when_their_cycle_has_ended(tmp_path):
    """Defect 6 of 0.7: one batch before; a cycle of one batch never ended."""
    net, kept = nn.Linear(12, 2), {}
    stage = {**PLAIN, "cycles": 3, "cycle_mult": 1}
    trained(net, tmp_path, stage=stage, batch_size=32, snapshot=lambda c: kept.update({c: net.weight.clone()}))
    assert list(kept) == [1, 2, 3]
    assert torch.equal(kept[3], net.weight) and not torch.equal(kept[1], kept[2])


# ---- when it goes wrong


def test_a_loss_that_is_no_number_is_refused_in_words(tmp_path):
    def source(rows, view):
        x = vectors(rows, view)
        return x * float("nan") if view == 2 and 7 in rows else x

    with pytest.raises(UserError) as refusal:
        trained(head(), tmp_path, source=source, valid_rows=np.empty(0, int))
    batches = draw_batches(np.arange(21), 8, 5, "head", 1)
    at = next(i for i, rows in enumerate(batches) if 7 in rows)
    rate = 0.05 * schedules.lr_factor(3 + at, 3, [1, 2])
    for part in ("stage head", f"step {3 + at} (epoch 2)", f"learning rate {rate:.3g}", str(batches[at].tolist())):
        assert part in str(refusal.value)


def test_logits_of_the_last_epoch_are_those_of_the_network_that_is_kept(tmp_path):
    """So that nothing need compute them again; of an average of weights they would be another network's."""
    net = head()
    records = trained(net, tmp_path)
    again = compute_logits(net, vectors, np.arange(21, 30), 0, CPU)
    assert np.array_equal(records.valid_logits, again)


# ---- words


@pytest.mark.parametrize(
    ("changes", "weights", "warned"),
    [
        ({}, "none", True),
        ({}, "DEFAULT", False),
        ({"lr_ratio": 1.0}, "none", False),
        ({"train": "head"}, "none", False),
    ],
)
def test_a_random_trunk_whose_early_layers_would_hardly_learn_is_warned_of(changes, weights, warned):
    found = stages.warnings_of({"name": "whole", "train": "all", "lr_ratio": 10.0, **changes}, weights)
    assert [("whole" in text, "100 times slower" in text) for text in found] == [(True, True)] * warned
