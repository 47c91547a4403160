"""Mini-batches: which rows, in which order, and which part of them a process computes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import vectors

from eightfold.train.batches import draw_batches, prepare_batch
from eightfold.train.distributed import Ranks


def test_order_is_keyed_by_seed_stage_and_epoch_and_holds_every_row_once():
    rows = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8])
    first = draw_batches(rows, 4, 0, "a", 0)
    assert [len(batch) for batch in first] == [4, 3, 3]
    assert sorted(np.concatenate(first)) == sorted(rows)
    again = draw_batches(rows, 4, 0, "a", 0)
    assert all((x == y).all() for x, y in zip(first, again, strict=True))
    for other in ((1, "a", 0), (0, "b", 0), (0, "a", 1)):
        assert (np.concatenate(draw_batches(rows, 4, *other)) != np.concatenate(first)).any()


@given(n=st.integers(2, 400), size=st.integers(2, 70), epoch=st.integers(0, 3))
def test_an_epoch_is_cut_into_nearly_equal_batches_that_hold_every_row_once(n, size, epoch):
    batches = draw_batches(np.arange(n) * 3, size, 0, "a", epoch)
    sizes = [len(batch) for batch in batches]
    assert sorted(np.concatenate(batches)) == [3 * row for row in range(n)]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 2
    if size > 2 or n % 2 == 0:  # an odd number in twos would leave one alone
        assert len(batches) == math.ceil(n / size) and max(sizes) <= size


def test_rows_are_drawn_by_their_weights_where_there_are_some():
    rows, weights = np.arange(10, 14), np.array([0.5, 0.5, 0, 0])
    drawn = np.concatenate([np.concatenate(draw_batches(rows, 2, 0, "a", epoch, weights)) for epoch in range(50)])
    assert len(drawn) == 200 and set(drawn) == {10, 11}
    assert abs((drawn == 10).mean() - 0.5) < 0.15


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("options", [{}, {"mixup": 0.4}, {"cutmix": 1.0}], ids=str)
def test_the_parts_of_all_processes_are_the_mini_batch_of_one(count, options):
    rows, targets, stage = np.array([8, 2, 5, 3, 9]), torch.arange(12) % 3, {"name": "all", **options}

    def source(rows, view):
        return vectors(rows, view).reshape(-1, 3, 2, 2)

    inputs, wanted = prepare_batch(rows, source, 1, targets, stage, 5, 7, Ranks())
    parts = [prepare_batch(rows, source, 1, targets, stage, 5, 7, Ranks(rank, count)) for rank in range(count)]
    assert torch.equal(torch.cat([part for part, _ in parts]), inputs)
    assert torch.equal(torch.cat([part for _, part in parts]), wanted)
    if not options:
        assert torch.equal(inputs, source(rows, 1)) and wanted.tolist() == (rows % 3).tolist()
    else:
        assert not torch.equal(inputs, source(rows, 1)) and torch.allclose(wanted.sum(1), torch.ones(5))
