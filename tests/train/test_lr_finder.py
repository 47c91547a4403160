"""The learning-rate finder: what it leaves alone, and what it reads off curves whose answer is known."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eightfold.config.schedules import finder_steps
from eightfold.core.devices import Device
from eightfold.core.randomness import seed_for
from eightfold.net import heads, nets
from eightfold.train import lr_finder
from eightfold.train.lr_finder import CAUTIOUS_LR, TRIED, choose, inner_splits, smooth, suggest, sweep, try_rates
from eightfold.train.setting import How, Setting

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
    return sweep(Setting(net, made_by, TARGETS, np.arange(64)), stage, How(8, 3, CPU), steps, start, end)


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
    net = heads.head(12, 2, 0)
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
    lrs, losses = swept(heads.head(12, 2, 0), steps=100, start=1e-5, end=100)
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
    monkeypatch.setattr(nets, "rate_groups", lambda net, stage: [list(part.parameters()) for part in net])
    net = nn.Sequential(nn.Linear(12, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    swept(net, steps=20, end=1e-2)
    np.testing.assert_allclose(seen, np.outer(rates(20, 1e-4, 1e-2), [0.01, 0.1, 1]))


@pytest.mark.parametrize(
    ("batches", "epochs", "train", "expected"),
    [
        *((3, 1, "head", 100), (200, 1, "head", 200), (999, 1, "head", 300), (100, 1, "all", 100)),
        *((999, 1, "all", 300), (4, 3, "all", 0), (10, 3, "all", 30), (16, 3, "all", 40)),
        *((20, 1, "all", 20), (19, 1, "all", 0)),
    ],
)
def test_steps_are_an_epoch_within_bounds_and_no_more_than_a_stage_of_all_layers(batches, epochs, train, expected):
    stage = {**STAGE, "cycles": epochs, "train": train}
    assert finder_steps("auto", batches, stage) == expected
    assert finder_steps(77, batches, stage) == 77


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
    assert set(found["suggestions"].values()) == {None} and "never clearly falls" in found["message"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("edge", [3e-5, 1e-3, 0.02, 3.0, None])
def test_without_a_suggestion_the_rate_is_the_cautious_one_or_lies_clearly_below_where_the_loss_rises(edge, optimizer):
    lrs = rates(200)
    losses = 0.5 + np.random.default_rng(3).normal(0, 0.01, 200)
    if edge:
        losses = losses + 3 * np.clip(np.log10(lrs / edge), 0, None)
    found = suggest(lrs, losses, "minimum", optimizer)
    assert set(found["suggestions"].values()) == {None}
    cautious = CAUTIOUS_LR[optimizer]
    assert found["lr"] == cautious if edge is None or edge > 100 * cautious else found["lr"] <= min(cautious, edge / 12)
    assert f"{found['lr']:.3g}" in found["message"]


def test_an_explosion_does_not_reach_the_curve_to_its_left():
    """The loss falls to .1 and then leaps to a thousand: what is read off is what a leap to 1 gives."""
    lrs = rates(100)
    falling = np.where(lrs < 0.1, parabola(lrs, 0.3, 0.003), np.nan)
    found = [suggest(lrs, np.where(np.isnan(falling), leap, falling), "minimum") for leap in (2.5, 1000.0)]
    assert found[0]["suggestions"] == found[1]["suggestions"] and found[0]["lr"] is not None
    assert max(found[1]["smoothed"]) <= 2 * np.mean(falling[:10])


def test_a_sweep_too_short_to_read_says_so_and_takes_no_rate_that_it_exploded_at():
    for n in (0, 1, 19):
        found = suggest(rates(100)[:n], [1.0] * n, "valley")
        assert f"ended after {n} steps" in found["message"] and f"{found['lr']:.3g}" in found["message"]
        assert found["lr"] == 0.003 if n == 0 else found["lr"] <= rates(100)[n - 1] / 29


# ---- trials


@given(
    n=st.integers(2, 60),
    of_a_group=st.integers(1, 4),
    kind=st.sampled_from(["classes", "labels"]),
    seed=st.integers(0, 9),
)
def test_inner_splits_judge_each_row_once_and_tear_no_group(n, of_a_group, kind, seed):
    source = np.random.default_rng(seed)
    targets = np.arange(3 * n) % 3 if kind == "classes" else (source.random((3 * n, 3)) < 0.4).astype(np.float32)
    rows, units = np.sort(source.permutation(3 * n)[:n]), np.arange(3 * n) // of_a_group
    splits = inner_splits(targets, rows, units, seed)
    groups = len(np.unique(units[rows]))
    assert len(splits) == (min(5, groups) if groups > 1 else 0)
    for learned, judged in splits:
        assert len(learned) and len(judged) and sorted([*learned, *judged]) == rows.tolist()
        assert not set(units[learned]) & set(units[judged])
    if splits:
        assert sorted(np.concatenate([judged for _, judged in splits])) == rows.tolist()
    again = inner_splits(targets, rows, units, seed)
    assert all(
        np.array_equal(a, b) for one, other in zip(splits, again, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_inner_splits_are_stratified_and_of_many_rows_take_some(monkeypatch):
    targets = np.repeat([0, 1], [80, 20])
    for _, judged in inner_splits(targets, np.arange(100), np.arange(100), 1):
        assert np.bincount(targets[judged]).tolist() == [16, 4]
    monkeypatch.setattr(lr_finder, "MOST_TRIAL_IMAGES", 30)
    splits = inner_splits(targets, np.arange(100), np.arange(100) // 3, 1)
    used = np.unique(np.concatenate([judged for _, judged in splits]))
    assert 27 <= len(used) <= 30 and all(np.isin(row // 3 * 3, used) for row in used)  # groups are whole


def tried(net=None, stage=STAGE, n=64, **changes):
    stage = {**stage, "train": "head", "min_steps": 40, **changes}
    splits = inner_splits(TARGETS, np.arange(n), np.arange(len(TARGETS)), 2)
    setting = Setting(net or heads.head(12, 2, 0), source, TARGETS, np.arange(n))
    return try_rates(setting, splits, stage, How(8, 3, CPU))


def test_trials_judge_each_row_at_each_rate_and_leave_network_and_random_state_alone():
    net = heads.head(12, 2, 0)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    losses = tried(net)
    assert losses.shape == (64, 5) and np.isfinite(losses).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(losses, tried(net))
    assert losses[:, 2].mean() < losses[:, 0].mean()  # forty steps at .001 have hardly begun


def test_a_trial_is_the_stage_trained_on_the_rows_that_are_left(tmp_path):
    """Its last weights are those of training.train with the same keys."""
    from eightfold.train import training

    stage = {**STAGE, "train": "head", "min_steps": 20, "cycles": 2, "optimizer": "adamw"}
    one, other = heads.head(12, 2, 0), heads.head(12, 2, 0)
    seed = seed_for("lr_find", 3, 0)
    lr_finder._train(Setting(one, source, TARGETS, np.arange(50)), stage, 0.003, How(8, seed, CPU))

    def same_dropout(*keys):
        return seed_for(seed, "dropout", keys[-1]) if "dropout" in keys else seed_for(*keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "seed_for", same_dropout)
        resume = tmp_path / "r.safetensors"
        training.train(Setting(other, source, TARGETS, np.arange(50)), stage, [0.003], How(8, seed, CPU), resume, "me")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_trials_stop_at_their_budget_of_steps(monkeypatch):
    monkeypatch.setattr(lr_finder, "MOST_TRIAL_STEPS", 450)  # five trials of some 40 steps are 200
    assert 0 < len(tried()) < 64


def test_the_chosen_rate_is_the_best_where_that_is_clear_and_between_the_best_where_it_is_not():
    random, chosen_rates = np.random.default_rng(0), TRIED["sgd"]
    noise = random.normal(0, 0.01, (200, 5))
    clear = choose(np.array([0.9, 0.5, 0.1, 0.5, 0.9]) + noise, chosen_rates)
    assert clear["lr"] == pytest.approx(0.01) and "lowest at 0.01" in clear["message"]
    assert [row["lr"] for row in clear["tried"]] == chosen_rates
    assert clear["tried"][2]["loss"] == pytest.approx(0.1, abs=0.01)
    assert clear["tried"][2]["error"] == pytest.approx(0.01 / 200**0.5, rel=0.3)
    level = choose(np.array([0.9, 0.1, 0.1, 0.9, 0.9]) + noise * 0, chosen_rates)
    assert level["lr"] == pytest.approx((0.003 * 0.01) ** 0.5)
    broken = choose(np.where(np.arange(5) > 1, 1e6, [[0.2, 0.1, 0, 0, 0]]) + noise, chosen_rates)
    assert broken["lr"] == pytest.approx(0.003)


def test_a_rate_is_behind_the_best_by_its_paired_difference_in_standard_errors():
    rng = np.random.default_rng(0)
    best = rng.exponential(1, 80)
    noise = rng.normal(0.1, 0.2, 80)
    losses = np.stack([best, best + noise, np.full(80, np.inf), best], 1)
    behind = lr_finder._standard_errors_behind(losses)
    assert behind[0] == behind[3] == 0 and behind[2] == np.inf
    assert behind[1] == pytest.approx(noise.mean() / (noise.std(ddof=1) / 80**0.5))


def test_a_rate_that_is_clearly_behind_after_the_first_split_is_tried_no_further(monkeypatch):
    whole = tried()
    monkeypatch.setattr(lr_finder, "CLEARLY", 0.0)  # then only the best of the first split goes on
    raced = tried()
    first = np.isfinite(raced).all(1)
    assert 0 < first.sum() < len(raced)
    np.testing.assert_array_equal(raced[first], whole[first])
    goes_on = np.isfinite(raced[~first]).sum(1)
    assert (goes_on >= 1).all() and (goes_on < raced.shape[1]).all()
    assert lr_finder.choose(raced, lr_finder.TRIED["sgd"])["lr"] > 0


# ---- all of it

FINDER = {"steps": 30, "start": 1e-4, "end": 10, "rule": "minimum"}


def found_for(stage, finder=FINDER, units=None, net=None, rows=64):
    stage = {**STAGE, "train": "head", "min_steps": 40, "optimizer": "sgd", **stage}
    setting = Setting(net or heads.head(12, 2, 0), source, TARGETS, np.arange(rows), classes=["a", "b"])
    return lr_finder.find_rate(setting, stage, How(8, 3, CPU), finder, units), setting, stage


def test_without_trials_the_rate_is_the_sweep_s_suggestion():
    found, setting, stage = found_for({})
    assert found == suggest(*sweep(setting, stage, How(8, 3, CPU), 30, 1e-4, 10), "minimum", "sgd")
    assert found["tried"] == [] and len(found["lrs"]) <= 30


def test_trials_of_a_new_head_replace_the_suggestion_and_keep_the_curve():
    """The head that an earlier stage trained has learned the images held back: it must have no part in the trials."""
    learned = heads.head(12, 2, 0)
    with torch.no_grad():
        learned[-1].weight.fill_(3.0)
    swept, _, _ = found_for({}, net=learned)
    found, setting, stage = found_for({}, net=learned, units=np.arange(64))
    assert found["rule"] == "trials" and found["lrs"] == swept["lrs"] and found["losses"] == swept["losses"]
    new = setting._replace(net=heads.head(12, 2, seed_for(3, "head")))
    splits = inner_splits(TARGETS, np.arange(64), np.arange(64), 3)
    expected = choose(try_rates(new, splits, stage, How(8, 3, CPU)), TRIED["sgd"])
    assert {key: found[key] for key in expected} == expected


def test_where_all_rows_are_one_unit_nothing_can_be_tried():
    found, _, _ = found_for({}, units=np.zeros(64, int))
    assert found["rule"] == "minimum" and found["tried"] == []


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stage_too_short_for_a_sweep_has_the_cautious_rate(optimizer):
    short = {"train": "all", "cycles": 2, "optimizer": optimizer}  # 2 epochs of 8 batches
    found, _, _ = found_for(short, FINDER | {"steps": "auto"})
    assert found["lr"] == CAUTIOUS_LR[optimizer] and found["lrs"] == []
    assert (
        found["message"].startswith("the stage makes 16 steps, too few for a sweep") and optimizer in found["message"]
    )
