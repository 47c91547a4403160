"""``until: over_fitting``: what is held back, when a stage ends, which network it ends with, and that kills change nothing."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import STAGE, head, same, targets, trained, vectors, without_seconds

from eightfold.core.files import UserError
from eightfold.net import scoring
from eightfold.train import stopping
from eightfold.train.stopping import Best


class Held:
    """The source of test_training, which says that all rows can be had in every view."""

    def __call__(self, rows, view):
        return vectors(rows, view)

    def holds(self, rows, view):
        return True


@given(st.lists(st.floats(0, 5), min_size=1, max_size=12))
def test_a_stage_ends_after_the_first_cycle_that_gains_nothing(losses):
    best, net, seen = Best(), torch.nn.Linear(1, 1), []
    assert not best.over
    for loss in losses:
        with torch.no_grad():
            net.weight.fill_(loss)
        best.after_cycle(net, loss)
        seen.append(loss)
        if best.over:
            break
    assert best.cycle == int(np.argmin(seen)) + 1 and best.state["weight"].item() == np.float32(min(seen))
    falls = all(a > b for a, b in pairwise(seen))
    assert best.over != falls and (falls or all(a > b for a, b in pairwise(seen[:-1])))


@given(st.integers(20, 300), st.integers(2, 5), st.integers(0, 3), st.booleans())
def test_one_in_ten_is_held_back_of_each_class_and_groups_stay_whole(n, classes, seed, grouped):
    y = np.arange(n) % classes
    rows = np.arange(0, n, 1 + (n > 100))
    units = np.arange(n) // 2 if grouped and len(rows) >= 60 and len(rows) == n else np.arange(n)
    learned, held = stopping.split(y, rows, units, (seed, "0"))
    assert sorted([*learned, *held]) == rows.tolist()
    assert not set(units[learned]) & set(units[held])
    assert abs(len(held) - len(rows) / 10) <= (4 if len(np.unique(units)) < n else 1)
    if len(np.unique(units)) == n:
        counts = [(y[held] == c).sum() - (y[rows] == c).sum() / 10 for c in range(classes)]
        assert max(map(abs, counts)) <= 1
    again = stopping.split(y, rows, units, (seed, "0"))
    assert np.array_equal(again[1], held)
    others = [stopping.split(y, rows, units, (seed, str(fold)))[1].tolist() for fold in range(1, 9)]
    assert any(other != held.tolist() for other in others)


def test_labels_are_split_too_and_too_few_images_are_refused():
    hot = (np.random.default_rng(0).random((60, 4)) < 0.4).astype(np.float32)
    learned, held = stopping.split(hot, np.arange(60), np.arange(60), (1, "0"))
    assert len(held) == 6 and len(learned) == 54
    with pytest.raises(UserError, match=r"of 19 images .* at least 20"):
        stopping.split(np.arange(40) % 2, np.arange(40), np.minimum(np.arange(40), 18), (1, "0"))


SIX = {**STAGE, "cycles": 6, "cycle_mult": 1}


def until(net, folder, held, lr=0.05, source=None, **changes):
    stage = {**SIX, "until": "over_fitting", **changes}
    return trained(net, folder, source=source or Held(), stage=stage, held_back=held, lrs=(lr,))


def test_the_network_of_the_best_cycle_is_kept(tmp_path):
    """Labels are drawn by chance, so that a head which learns its rows answers others worse and worse."""
    held, ends = np.arange(21, 27), []
    one = head()
    records = until(one, tmp_path, held)
    kept = records.best.cycle
    assert records.best.over and len(records.best.losses) == kept + 1 == len(records.epochs) < 6
    assert records.kept == kept and records.valid_logits is None
    # The same stage of as many cycles ends in the same network: what is held back decides the end and nothing else.
    other = head()

    def keep(cycle):
        ends.append(copy.deepcopy(other))

    trained(other, tmp_path / "other", source=Held(), stage=SIX, snapshot=keep)
    assert same(one, ends[kept - 1]) and not same(one, ends[kept])
    logits = [end.eval()(vectors(held, 0)).detach().numpy() for end in ends]
    losses = [scoring.row_losses(answer, targets()[held]).mean() for answer in logits]
    np.testing.assert_allclose(records.best.losses, losses[: kept + 1], rtol=1e-6)


def test_a_stage_that_gains_to_its_end_goes_through_all_its_cycles(tmp_path):
    easy = np.arange(21)[:6]  # rows that it learns from: their loss falls
    records = until(head(), tmp_path, easy, lr=0.001, cycles=3, cycle_len=2, augment=False)
    assert len(records.best.losses) == 3 and not records.best.over and records.kept == 6 == len(records.epochs)
    assert records.valid_logits is not None


def test_a_stage_that_another_goes_on_from_holds_the_images_back_and_goes_through_all_its_cycles(tmp_path):
    one, other = head(), head()
    records = trained(one, tmp_path, source=Held(), stage=SIX, held_back=np.arange(21, 27))
    trained(other, tmp_path / "other", source=Held(), stage=SIX)
    assert len(records.epochs) == 6 and records.best.losses == [] and records.kept is None and same(one, other)


@pytest.mark.parametrize("step", range(0, 12, 2))
def test_killed_at_any_step_it_ends_in_the_same_bits(tmp_path, step):
    held, calls, whole = np.arange(21, 27), 0, head()
    expected = until(whole, tmp_path / "whole", held)

    class Breaking(Held):
        def __call__(self, rows, view):
            nonlocal calls
            if view > 0:
                if calls == step:
                    raise KeyboardInterrupt
                calls += 1
            return vectors(rows, view)

    one = head()
    try:
        until(one, tmp_path, held, source=Breaking())
    except KeyboardInterrupt:
        one = head()
    found = until(one, tmp_path, held)
    assert same(one, whole) and without_seconds(found) == without_seconds(expected)
    assert found.best.losses == expected.best.losses and found.kept == expected.kept
