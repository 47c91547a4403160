"""Ensembles: weights by hand, greedy selection by brute force, and other runs that do not fit are refused."""

import numpy as np
import pandas as pd
import pytest

from eightfold import ensembles, metrics, prediction
from eightfold.files import UserError, write_json, write_table


def stack_of(seed: int, members: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Members that each know something: the truth under noise of their own."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    logits = 1.5 * np.eye(classes)[targets] + rng.normal(0, 1.5, (members, n, classes))
    return metrics.softmax(logits), targets


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("kind", ["equal", "plain_quarter"])
def test_equal_weights_are_the_mean_over_snapshots_of_the_mean_over_views(average, kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 20, 4)).astype(np.float32)  # snapshots, views, rows, classes
    expected = np.mean([prediction.combine(of, True, average, kind) for of in logits], 0)
    members = ensembles.members_of(3, 5, [])
    stack = metrics.softmax(logits).reshape(15, 20, 4)
    weights = ensembles.equal_weights(3, 5, 0, kind)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(ensembles.blend(stack, members, weights, average, "arithmetic", False), expected)


def test_another_run_counts_as_much_as_this_one():
    stack, _ = stack_of(1, 5, 30, 3)
    members = ensembles.members_of(2, 2, ["big"])
    assert [member.name for member in members][-1] == "run big"
    weights = ensembles.equal_weights(2, 2, 1, "equal")
    expected = (stack[:4].mean(0) + stack[4]) / 2
    np.testing.assert_allclose(ensembles.blend(stack, members, weights, "arithmetic", "arithmetic", False), expected)
    mean = (stack[:2].mean(0) * stack[2:4].mean(0)) ** 0.25 * stack[
        4
    ] ** 0.5  # a snapshot's views are still averaged plainly
    mean /= mean.sum(1, keepdims=True)
    np.testing.assert_allclose(ensembles.blend(stack, members, weights, "arithmetic", "geometric", False), mean)


@pytest.mark.parametrize("average, several", [("arithmetic", False), ("geometric", False), ("geometric", True)])
def test_greedy_selection_takes_each_round_what_a_search_of_all_would(average, several):
    stack, targets = stack_of(2, 4, 60, 3)
    truth = np.eye(3)[targets] if several else targets
    weights = ensembles.greedy(stack, lambda p: metrics.log_loss(p, truth), average, several)

    def loss(chosen):
        members = np.stack([stack[i] for i in chosen])
        mean = prediction.mean_members(members, np.full(len(chosen), 1 / len(chosen)), average, not several)
        return metrics.log_loss(mean, truth)

    chosen, best = [], (np.inf, None)
    for _ in range(ensembles.ROUNDS):
        chosen = [*chosen, min(range(4), key=lambda i: loss([*chosen, i]))]
        best = min(best, (round(loss(chosen), 9), len(chosen)))
        if len(chosen) - best[1] >= ensembles.PATIENCE:
            break
    np.testing.assert_allclose(weights, np.bincount(chosen[: best[1]], minlength=4) / best[1])
    alone = [metrics.log_loss(member, truth) for member in stack]
    assert loss(chosen[: best[1]]) < min(alone)


def test_greedy_selection_leaves_out_a_member_that_only_harms():
    stack, targets = stack_of(3, 3, 200, 3)
    stack[1] = stack[1][:, ::-1]  # says the wrong class
    weights = ensembles.greedy(stack, lambda p: metrics.log_loss(p, targets), "arithmetic", False)
    assert weights[1] == 0 and weights.sum() == pytest.approx(1) and weights[0] > 0 and weights[2] > 0


def test_the_table_says_what_is_lost_without_each_member():
    stack, targets = stack_of(4, 3, 100, 3)
    members = [ensembles.Member(name, name) for name in "abc"]
    blend = ensembles.Blend(members, np.array([0.5, 0.5, 0.0]), "arithmetic", "arithmetic", False)
    table = ensembles.contributions(stack, blend, lambda p: metrics.log_loss(p, targets))
    assert [row["member"] for row in table] == list("abc")
    assert table[0]["without"] == metrics.log_loss(stack[1], targets)
    assert table[1]["alone"] == metrics.log_loss(stack[1], targets)
    assert table[2]["weight"] == 0 and table[2]["without"] is None


@pytest.fixture
def other(tmp_path):
    table = pd.DataFrame(
        {"id": ["007", "nan", "1e5"], "label": ["a", "b", "a"], "a": [0.9, 0.2, 0.6], "b": [0.1, 0.8, 0.4]}
    )
    write_table(tmp_path / "predictions" / "valid.csv", table)
    write_json(tmp_path / "metrics.json", {"manifest": "d"})
    return tmp_path


def test_another_run_is_read_by_id_in_the_order_that_is_asked_for(other):
    found = ensembles.read_run(str(other), "d", ["a", "b"], "valid", ["1e5", "007", "nan"])
    np.testing.assert_allclose(found, [[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize(
    "digest, classes, split, ids, words",
    [
        ("e", ["a", "b"], "valid", ["007"], "other data"),
        ("d", ["a", "c"], "valid", ["007"], "not this run's classes"),
        ("d", ["a", "b"], "valid", ["007", "7"], "hold out the same rows"),
        ("d", ["a", "b"], "test", ["007"], "run that config"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(other, digest, classes, split, ids, words):
    with pytest.raises(UserError, match=words):
        ensembles.read_run(str(other), digest, classes, split, ids)
