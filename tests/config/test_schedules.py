"""Learning rates: the closed form against fastai 0.7's loop, written again from the recipe, step by step."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightfold.config import schedules


def fastai07(batches, cycles, cycle_len, cycle_mult):
    """Factors of all mini-batches as 0.7's CosAnneal counts them: an iteration, a length, a reset at a cycle's end."""
    factors, iteration, nb, first = [], 0, batches * cycle_len, True
    epochs = sum(cycle_len * cycle_mult**i for i in range(cycles))
    for _ in range(batches * epochs):
        factors.append(0.01 if first and iteration < nb / 20 else (1 + math.cos(math.pi * iteration / nb)) / 2)
        iteration += 1
        if iteration == nb:
            iteration, nb, first = 0, nb * cycle_mult, False
    return factors


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_the_closed_form_is_the_loop(batches, cycles, cycle_len, cycle_mult):
    lengths = schedules.cycle_lengths(cycles, cycle_len, cycle_mult)
    assert sum(lengths) == schedules.stage_epochs({"cycles": cycles, "cycle_len": cycle_len, "cycle_mult": cycle_mult})
    found = [schedules.lr_factor(step, batches, lengths) for step in range(batches * sum(lengths))]
    assert found == pytest.approx(fastai07(batches, cycles, cycle_len, cycle_mult))


def test_the_lessons_cycles_are_1_2_and_4_epochs():
    assert schedules.cycle_lengths(3, 1, 2) == [1, 2, 4]
    assert schedules.cycle_lengths(3, 1, 1) == [1, 1, 1]
    assert [schedules.cycle_of(epoch, [1, 2, 4]) for epoch in range(7)] == [0, 1, 1, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="epoch 7 is past the last of 7"):
        schedules.cycle_of(7, [1, 2, 4])


def test_warm_up_is_a_twentieth_of_the_first_cycle_at_a_hundredth():
    found = [schedules.lr_factor(step, 40, [1, 2]) for step in range(120)]
    assert found[:2] == [0.01, 0.01] and found[2] == pytest.approx((1 + math.cos(math.pi / 20)) / 2)
    assert found[40] == 1  # the second cycle starts at the full rate
    assert found.count(0.01) == 2


def test_ends_and_middles_of_cycles():
    found = [schedules.lr_factor(step, 50, [1, 2, 4]) for step in range(350)]
    for start, length in ((0, 50), (50, 100), (150, 200)):
        assert found[start + length // 2] == pytest.approx(0.5)
        assert found[start + length - 1] == pytest.approx(math.sin(math.pi / 2 / length) ** 2)
        inside = found[start + 3 : start + length]
        assert inside == sorted(inside, reverse=True)
    # The cosine's mean is a half, so a cycle's sum is half its length, and half a step more for starting at the top.
    assert sum(found[50:150]) == pytest.approx(50.5) and sum(found[150:]) == pytest.approx(100.5)


def test_rates_of_groups():
    assert schedules.group_lrs(0.01, {"lr_ratio": 10}, 3) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert schedules.group_lrs(0.2, {"lr_ratio": 3}, 3) == pytest.approx([0.2 / 9, 0.2 / 3, 0.2])
    assert schedules.group_lrs([1.0, 2.0, 3.0], {}, 3) == [1, 2, 3]
    assert schedules.group_lrs([1.0, 2.0, 3.0], {}, 1) == [3]  # a head stage has the last group only
    assert schedules.group_lrs(0.5, {"lr_ratio": 10}, 1) == [0.5]
    with pytest.raises(ValueError, match="2 learning rates for 3"):
        schedules.group_lrs([1.0, 2.0], {}, 3)


def test_the_sweep_is_geometric_and_meets_both_ends():
    found = [schedules.finder_lr(step, 100, 1e-5, 10) for step in range(100)]
    assert found[0] == pytest.approx(1e-5) and found[-1] == pytest.approx(10)
    ratios = [b / a for a, b in pairwise(found)]
    assert ratios == pytest.approx([1e6 ** (1 / 99)] * 99)


@given(
    st.integers(1, 200), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 300), st.integers(1, 9)
)
def test_a_floor_of_steps_lengthens_every_cycle_alike_and_adds_no_view(batches, cycles, length, mult, least, first):
    stage = {"cycles": cycles, "cycle_len": length, "cycle_mult": mult, "min_steps": least}
    stage |= {"augment": True, "first_view": first}
    own, lengths = schedules.cycle_lengths(cycles, length, mult), schedules.trained_lengths(stage, batches)
    times = lengths[0] // own[0]
    assert lengths == [times * epochs for epochs in own]
    assert batches * sum(lengths) >= least
    assert times == 1 or batches * sum(own) * (times - 1) < least  # no longer than it need be
    shown = [schedules.view_of(stage, epoch) for epoch in range(sum(lengths))]
    assert shown == times * list(range(first, first + sum(own)))
    assert {schedules.view_of({**stage, "augment": False}, epoch) for epoch in range(9)} == {0}


@given(st.integers(1, 30), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(0.01, 0.99))
def test_a_warm_up_rises_to_the_schedule_in_a_straight_line(batches, lengths, share):
    total = batches * sum(lengths)
    found = [schedules.factor({"warmup": share}, step, batches, lengths) for step in range(total)]
    plain = [schedules.lr_factor(step, batches, lengths, slow_start=False) for step in range(total)]
    for step, (rate, cosine) in enumerate(zip(found, plain, strict=True)):
        assert rate == pytest.approx(cosine * min(1, (step + 1) / max(1, share * total)))
    assert schedules.factor({}, 0, batches, lengths) == 0.01  # 0.7's slow start, which a warm-up replaces
    assert plain[0] == 1


def test_rates_of_blocks():
    assert schedules.group_lrs(0.01, {"layer_decay": 0.5, "lr_ratio": 10}, 3) == pytest.approx([0.0025, 0.005, 0.01])
