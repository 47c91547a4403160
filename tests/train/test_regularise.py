"""A stage's options against their definitions; all of them go through training and survive a stop and a resume."""

import functools

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from eightfold.config import schedules
from eightfold.core.devices import Device
from eightfold.net import heads
from eightfold.train import averaging, regularise, training
from eightfold.train.batches import draw_batches
from eightfold.train.setting import How, Setting

SEED = 5
TARGETS = np.array([0] * 24 + [1] * 8 + [2] * 8)
ROWS = np.arange(len(TARGETS))
STAGE = {"name": "head", "augment": False, "first_view": 1, "cycles": 2, "cycle_len": 2, "cycle_mult": 1}


def logits(n: int = 40, classes: int = 3) -> torch.Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(0))


def test_without_options_the_loss_is_plain_cross_entropy():
    y = torch.from_numpy(TARGETS)
    assert regularise.loss_for({}, TARGETS, ROWS)(logits(), y).equal(F.cross_entropy(logits(), y))
    hot = F.one_hot(y, 3).float()
    plain = F.binary_cross_entropy_with_logits(logits(), hot)
    assert regularise.loss_for({}, hot.numpy(), ROWS)(logits(), hot).equal(plain)


def test_losses_are_those_of_logits():
    random = np.random.default_rng(0)
    logits, y = random.normal(size=(7, 4)), random.integers(0, 4, 7)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(7), y]).mean()
    assert regularise.loss_of(torch.tensor(logits), torch.tensor(y)).item() == pytest.approx(expected)
    hot = (random.random((7, 4)) < 0.4).astype(float)
    s = 1 / (1 + np.exp(-logits))
    expected = -(hot * np.log(s) + (1 - hot) * np.log(1 - s)).mean()
    assert regularise.loss_of(torch.tensor(logits), torch.tensor(hot)).item() == pytest.approx(expected)
    far = regularise.loss_of(torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]]))
    assert far.item() == pytest.approx(200)  # defect 9 of 0.7: infinity, through a sigmoid that is exactly 1


def test_label_smoothing_is_cross_entropy_with_softer_targets():
    y = torch.from_numpy(TARGETS)
    soft = 0.9 * F.one_hot(y, 3).float() + 0.1 / 3
    for targets in (y, F.one_hot(y, 3).float()):
        found = regularise.loss_for({"label_smoothing": 0.1}, TARGETS, ROWS)(logits(), targets)
        torch.testing.assert_close(found, F.cross_entropy(logits(), soft))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_balanced_class_weights_are_scikit_learn_s_and_parts_of_a_batch_add_up(smoothing):
    weights = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS)
    np.testing.assert_allclose(regularise.balanced_weights(TARGETS, 3), weights)
    assert regularise.balanced_weights(TARGETS, 3)[TARGETS].mean() == pytest.approx(1)
    loss = regularise.loss_for({"class_weights": "balanced", "label_smoothing": smoothing}, TARGETS, ROWS)
    y = torch.from_numpy(TARGETS)
    if not smoothing:
        each = F.cross_entropy(logits(), y, reduction="none") * torch.tensor(weights)[y]
        torch.testing.assert_close(loss(logits(), y), each.mean().float())
    parts = loss(logits()[:10], y[:10]) * 0.25 + loss(logits()[10:], y[10:]) * 0.75
    torch.testing.assert_close(loss(logits(), y), parts)


def test_balanced_weights_of_tags_let_presence_and_absence_count_alike():
    hot = (np.random.default_rng(0).random((200, 2)) < [0.1, 0.5]).astype(np.float32)
    absent, present = regularise.balanced_weights(hot, 2).T
    np.testing.assert_allclose(present * hot.sum(0), absent * (1 - hot).sum(0))


def test_a_balanced_sampler_draws_every_class_as_often():
    chances = regularise.sampling_weights(TARGETS)
    np.testing.assert_allclose([chances[c == TARGETS].sum() for c in range(3)], 1 / 3)
    rows = np.arange(100, 140)
    drawn = np.concatenate([np.concatenate(draw_batches(rows, 7, 0, "s", epoch, chances)) for epoch in range(100)])
    shares = np.bincount(TARGETS[drawn - 100]) / len(drawn)
    assert len(drawn) == 4000 and np.abs(shares - 1 / 3).max() < 0.03
    again = np.concatenate(draw_batches(rows, 7, 0, "s", 0, chances))
    np.testing.assert_array_equal(again, drawn[:40])
    hot = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    np.testing.assert_allclose(regularise.sampling_weights(hot), np.array([1 / 3, 1 / 3, 1, 1]) / (8 / 3))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_targets_are_the_shares_of_the_pixels(kind):
    y = torch.arange(6)
    images = y.float()[:, None, None, None].expand(6, 3, 16, 20).contiguous()  # an image is its class number
    stage = {"name": "all", kind: 1.0}
    shares = []
    for step in range(20):
        x, soft = regularise.mixed(images, y, stage, 6, SEED, step)
        torch.testing.assert_close(x.mean((1, 2, 3)), soft @ y.float())
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        again = regularise.mixed(images, y, stage, 6, SEED, step)
        assert x.equal(again[0]) and soft.equal(again[1])
        shares.append(float(soft[0, 0]))
    assert len(set(shares)) > 5
    assert images.equal(y.float()[:, None, None, None].expand(6, 3, 16, 20))  # the batch itself is left alone


def test_without_mixing_the_batch_is_the_same_object_and_with_both_kinds_each_step_takes_one():
    x, y = torch.rand(4, 3, 8, 8), torch.arange(4)
    assert regularise.mixed(x, y, {"name": "a", "mixup": 0}, 4, 0, 0)[0] is x
    both = [regularise.mixed(x, y, {"name": "a", "mixup": 1.0, "cutmix": 1.0}, 4, 0, step)[0] for step in range(12)]
    known = set(x.flatten().tolist())
    pasted = [set(mixture.flatten().tolist()) <= known for mixture in both]  # cutmix makes no new value
    assert any(pasted) and not all(pasted)


def test_one_cycle_rises_for_a_quarter_and_falls_to_nothing():
    factors = [schedules.one_cycle(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 25) and factors[25] == pytest.approx(1) and factors[-1] < 2e-3
    assert (np.diff(factors[:26]) > 0).all() and (np.diff(factors[25:]) < 0).all()
    assert schedules.factor({"schedule": "one_cycle"}, 7, 10, [4, 6]) == factors[7]
    assert schedules.factor({"schedule": "sgdr"}, 7, 10, [4, 6]) == schedules.lr_factor(7, 10, [4, 6])


def test_swa_is_the_mean_of_the_cycles_ends_and_ema_a_weighted_one():
    net = nn.Linear(2, 1)
    values = [1.0, 4.0, 7.0]
    swa, ema = averaging.Average("swa", 0), averaging.Average("ema", 0.5)
    for value in values:
        nn.init.constant_(net.weight, value)
        ema.after_step(net), swa.after_step(net)
        ema.after_cycle(net), swa.after_cycle(net)
    assert swa.count == 3 and swa.mean["weight"].tolist() == [[4.0, 4.0]]
    expected = values[0]
    for count, value in enumerate(values[1:], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    assert ema.mean["weight"][0, 0].item() == pytest.approx(expected)
    swa.copy_to(net)
    assert net.weight.tolist() == [[4.0, 4.0]]
    nothing = averaging.Average("none", 0)
    nothing.after_step(net), nothing.after_cycle(net)
    assert nothing.count == 0


def test_batchnorm_statistics_are_those_of_the_data():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1)) * 5 + 2
    averaging.refresh_batchnorm(net, [functools.partial(lambda part: part, part) for part in x.split(16)], False)
    torch.testing.assert_close(net[0].running_mean, x.mean(0))
    assert net[0].momentum == 0.1


class Stopped(Exception):
    pass


def train(tmp_path, stage, targets=TARGETS, name="a", stop_after=None, monkeypatch=None):
    inputs = torch.randn(len(targets), 8, generator=torch.Generator().manual_seed(2))
    net = heads.head(8, 3, 7)
    calls = 0

    def source(rows, view):
        nonlocal calls
        calls += 1
        return inputs[rows]

    if stop_after is not None:
        monkeypatch.setattr(training, "terminated", lambda: calls >= stop_after)
    device = Device(torch.device("cpu"), torch.float32)
    rows = np.arange(len(targets))
    try:
        setting = Setting(net, source, targets, rows)
        resume = tmp_path / f"{name}.safetensors"
        records = training.train(setting, STAGE | stage, [0.05], How(8, SEED, device), resume, "id")
    finally:
        if monkeypatch is not None:
            monkeypatch.undo()
    return net.state_dict(), records


OPTIONS = [
    {},
    {"optimizer": "adamw", "weight_decay": 0.01},
    {"averaging": "ema", "ema_decay": 0.9},
    {"averaging": "swa"},
    {"sampler": "balanced", "class_weights": "balanced", "label_smoothing": 0.1},
    {"schedule": "one_cycle", "cycles": 1},
    {"mixup": 0.4, "averaging": "ema", "ema_decay": 0.9, "optimizer": "adamw"},
]


@pytest.mark.parametrize("stage", OPTIONS, ids=lambda stage: "-".join(map(str, stage)) or "none")
def test_a_stopped_stage_goes_on_to_the_same_weights_whatever_its_options(tmp_path, stage, monkeypatch):
    whole, records = train(tmp_path, stage)
    with pytest.raises(SystemExit):
        train(tmp_path, stage, name="b", stop_after=7, monkeypatch=monkeypatch)
    resumed, again = train(tmp_path, stage, name="b")
    assert [row["loss"] for row in records.batches] == [row["loss"] for row in again.batches]
    for key, value in whole.items():
        assert value.equal(resumed[key]), key
    if stage:
        plain, _ = train(tmp_path, {}, name="c")
        assert any(not value.equal(whole[key]) for key, value in plain.items())


@pytest.mark.parametrize("stage", OPTIONS[1:], ids=lambda stage: "-".join(map(str, stage)))
def test_every_option_trains_images_of_several_labels_too(tmp_path, stage):
    hot = np.eye(3, dtype=np.float32)[TARGETS]
    _, records = train(tmp_path, stage, hot)
    assert all(np.isfinite(row["loss"]) for row in records.batches)
