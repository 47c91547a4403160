"""The learning-rate finder: what it leaves alone, and what it reads off curves whose answer is known."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from eightfold import lr_finder, nets
from eightfold.devices import Device
from eightfold.lr_finder import FALLBACK_LR, smooth, suggest, sweep
from eightfold.schedules import finder_steps

CPU = Device(torch.device("cpu"), torch.float32)
STAGE = {
    "name": "head",
    "augment": False,
    "first_view": 1,
    "lr_ratio": 10,
    "cycles": 1,
    "cycle_len": 1,
    "cycle_mult": 1,
}
TARGETS = np.arange(64) % 2


def source(rows, view):
    """Two clouds of points that can be told apart."""
    return torch.stack(
        [torch.randn(12, generator=torch.Generator().manual_seed(int(row))) + 2 * (int(row) % 2) for row in rows]
    )


def swept(net, steps=60, start=1e-4, end=10, stage=STAGE, made_by=source):
    return sweep(net, made_by, TARGETS, np.arange(64), stage, steps, start, end, 8, 3, CPU, False)


def rates(n=100, start=1e-5, end=10):
    return start * (end / start) ** (np.arange(n) / (n - 1))


def parabola(lrs, lowest=0.1, noise=0.0):
    """Loss with its minimum at ``lowest``: flat, falling, lowest, exploding."""
    x = np.log10(lrs / lowest)
    curve = np.where(x < 0, 1 - 0.7 * np.exp(-(x**2)), 0.3 + x**2)
    return curve + np.random.default_rng(0).normal(0, noise, len(lrs))


# ---- the sweep


def test_the_network_and_the_random_state_are_left_as_they_were():
    """Defect 7 of 0.7: runs with and without the finder differed."""
    net = nets.head(6, 2, 0)
    before = copy.deepcopy(net.state_dict())
    mode = [module.training for module in net.modules()]
    torch.manual_seed(4)
    np.random.seed(4)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    lrs, losses = swept(net)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpys).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == mode
    assert all(parameter.grad is None for parameter in net.parameters())
    torch.manual_seed(5)
    assert (lrs, losses) == swept(net)


def test_the_rates_are_geometric_and_the_losses_fall_before_they_rise():
    lrs, losses = swept(nets.head(6, 2, 0), steps=100, start=1e-5, end=100)
    np.testing.assert_allclose(lrs, rates(100, 1e-5, 100)[: len(lrs)])
    assert len(lrs) == len(losses) and min(losses) < losses[0] - 0.2


def test_it_stops_where_the_loss_explodes():
    lrs, losses = swept(nn.Linear(12, 2), steps=300, start=1e-3, end=1e6)
    assert 20 < len(lrs) < 300 and np.isfinite(losses).all()
    # It ends at the first step whose debiased 0.98 average is four times the best since step 10, and no earlier.
    average, best = 0.0, np.inf
    for step, loss in enumerate(losses):
        average = 0.98 * average + 0.02 * loss
        debiased = average / (1 - 0.98 ** (step + 1))
        if step >= 10:
            best = min(best, debiased)
            assert (debiased > 4 * best) == (step == len(losses) - 1)


def test_it_stops_at_a_loss_that_is_no_number():
    calls = []

    def breaking(rows, view):
        calls.append(rows)
        return source(rows, view) * (float("nan") if len(calls) > 20 else 1)

    lrs, losses = swept(nn.Linear(12, 2), made_by=breaking)
    assert len(lrs) == len(losses) == 20 and np.isfinite(losses).all()


def test_a_short_epoch_is_gone_through_again_in_a_new_order_and_the_next_view():
    seen = []

    def watching(rows, view):
        seen.append((view, rows.tolist()))
        return source(rows, view)

    swept(nn.Linear(12, 2), steps=24, end=1e-3, stage={**STAGE, "augment": True, "cycles": 2}, made_by=watching)
    assert [view for view, _ in seen] == [1] * 8 + [2] * 8 + [1] * 8  # no view that the stage will not see
    epochs = [[row for _, rows in seen[i : i + 8] for row in rows] for i in (0, 8, 16)]
    assert all(sorted(epoch) == list(range(64)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]


def test_all_groups_keep_their_ratios(monkeypatch):
    seen = []
    plain = lr_finder.Stepper.__call__

    def watching(self, inputs, targets, lrs, seed):
        seen.append(list(lrs))
        return plain(self, inputs, targets, lrs, seed)

    monkeypatch.setattr(lr_finder.Stepper, "__call__", watching)
    monkeypatch.setattr(nets, "groups", lambda net: list(net.children()))
    net = nn.Sequential(nn.Linear(12, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    swept(net, steps=20, end=1e-2)
    np.testing.assert_allclose(seen, np.outer(rates(20, 1e-4, 1e-2), [0.01, 0.1, 1]))


def test_steps_are_an_epoch_within_bounds():
    assert [finder_steps("auto", n, True) for n in (3, 100, 999)] == [40, 100, 300]
    assert [finder_steps("auto", n, False) for n in (3, 200, 999)] == [100, 200, 300]
    assert finder_steps(77, 3, True) == 77


# ---- the curve


def test_smoothing_does_not_lag():
    """The average of a line is that line away from its ends, of a peak a peak in its place; 0.7's lagged."""
    line = np.linspace(3, 1, 200)
    np.testing.assert_allclose(smooth(line)[80:120], line[80:120], atol=1e-3)
    bump = np.exp(-(((np.arange(201) - 100) / 10) ** 2))
    assert smooth(bump).argmax() == 100
    np.testing.assert_allclose(smooth(bump), smooth(bump)[::-1])
    shifted = np.roll(bump, 25)
    assert smooth(shifted).argmax() == 125
    np.testing.assert_allclose(smooth([2.0] * 50), 2)
    noisy = np.random.default_rng(0).normal(size=400)
    assert smooth(noisy)[50:-50].std() < 0.3


def test_suggestions_on_a_curve_whose_answers_are_known():
    lrs = rates(300)
    losses = parabola(lrs, lowest=0.1, noise=0.01)
    found = suggest(lrs, losses, "minimum")
    told = found["suggestions"]
    assert told["minimum"] == pytest.approx(0.01, rel=0.35) and found["lr"] == told["minimum"]
    # exp(-x^2) falls fastest at x = -1/sqrt(2) decades of its minimum.
    assert told["steepest"] == pytest.approx(0.1 * 10**-0.707, rel=0.5)
    assert 1e-3 < told["valley"] < 0.1
    for rule in ("steepest", "valley"):
        assert suggest(lrs, losses, rule)["lr"] == told[rule]
        assert f"{rule} suggests" in suggest(lrs, losses, rule)["message"]
    assert found["lrs"] == list(lrs) and len(found["smoothed"]) == 300


@pytest.mark.parametrize("lowest", [0.003, 0.03, 0.3])
def test_a_curve_shifted_by_decades_shifts_what_is_read_off_it(lowest):
    lrs = rates(300)
    base, moved = (suggest(lrs, parabola(lrs, at), "minimum")["suggestions"] for at in (0.03, lowest))
    for rule in ("minimum", "steepest"):  # the valley counts from where the sweep began
        assert moved[rule] / base[rule] == pytest.approx(lowest / 0.03, rel=0.35), rule


def longest_falling(values):
    """Every longest strictly falling subsequence's length and end, by brute force over (length, end)."""
    best = {}
    for end, value in enumerate(values):
        best[end] = 1 + max((best[i] for i in range(end) if values[i] > value), default=0)
    longest = max(best.values())
    return longest, min(end for end, length in best.items() if length == longest)


def fastai2_valley(lrs, losses):
    """fastai 2's rule, from its text: the longest valley, a third of it, and half of a third more."""
    length, end = longest_falling(losses)
    start = end - length
    sections = (end - start) / 3
    return lrs[max(start, 0) + int(sections) + int(sections / 2)]


@pytest.mark.parametrize("seed", range(20))
def test_valley_is_fastai_2s(seed):
    random = np.random.default_rng(seed)
    losses = np.round(np.cumsum(random.normal(-0.1, 0.5, 60)), 1)
    lrs = rates(60)
    assert lr_finder._valley(lrs, losses) == fastai2_valley(lrs, losses.tolist())


@pytest.mark.parametrize(
    "losses",
    [
        np.full(100, 0.7),
        0.7 + np.random.default_rng(1).normal(0, 0.1, 100),
        np.linspace(0.7, 3, 100),
        0.7 + np.random.default_rng(2).normal(0, 0.01, 100) + np.linspace(0, 1, 100) ** 4,
    ],
    ids=["flat", "noise", "rising", "noise, then rising"],
)
def test_without_a_clear_fall_there_is_no_suggestion(losses):
    found = suggest(rates(len(losses)), losses, "minimum")
    assert found["lr"] is None and set(found["suggestions"].values()) == {None}
    assert "never clearly falls" in found["message"] and FALLBACK_LR == 0.01


def test_a_sweep_too_short_to_read_says_so():
    for n in (0, 1, 19):
        found = suggest(rates(100)[:n], [1.0] * n, "valley")
        assert found["lr"] is None and f"ended after {n} steps" in found["message"]
