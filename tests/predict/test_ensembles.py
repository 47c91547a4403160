"""Ensembles: weights by hand, greedy selection by brute force, and other runs that do not fit are refused."""

import json

import numpy as np
import pandas as pd
import pytest

from eightfold.core.files import UserError, write_json, write_table
from eightfold.net import scoring
from eightfold.predict import ensembles, prediction


def stack_of(seed: int, members: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Members that each know something: the truth under noise of their own."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    logits = 1.5 * np.eye(classes)[targets] + rng.normal(0, 1.5, (members, n, classes))
    return scoring.softmax(logits), targets


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("kind", ["equal", "plain_quarter"])
def test_a_network_answers_by_its_plain_view_or_by_the_weighted_mean_of_its_views(average, kind):
    views, _ = stack_of(0, 5, 20, 4)
    plain, mean = ensembles.of_network(views, kind, average, multi_label=False)
    np.testing.assert_array_equal(plain, views[0])
    shares = prediction.view_weights(4, kind)
    if average == "arithmetic":
        expected = sum(share * p for share, p in zip(shares, views, strict=True))
    else:
        expected = np.prod([p**share for share, p in zip(shares, views, strict=True)], axis=0)
        expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(mean, expected)
    assert len(ensembles.of_network(views[:1], kind, average, multi_label=False)) == 1


def test_equal_weights_let_each_network_answer_once_and_another_run_count_as_much_as_this_one():
    networks = [("all", "cycle1"), ("all", "end")]
    members = ensembles.members_of(networks, 3, ["big"])
    names = ["all, cycle 1, plain view", "all, cycle 1, 3 views", "all, plain view", "all, 3 views", "run big"]
    assert [member.name for member in members] == names
    assert ensembles.equal_weights(members).tolist() == [0, 0.25, 0, 0.25, 0.5]
    assert ensembles.equal_weights(ensembles.members_of(networks, 1, [])).tolist() == [0.5, 0.5]
    stack, _ = stack_of(1, 5, 30, 3)
    blend = ensembles.Blend(members, ensembles.equal_weights(members), "arithmetic", False)
    np.testing.assert_allclose(blend(stack), stack[1] / 4 + stack[3] / 4 + stack[4] / 2)
    np.testing.assert_allclose(blend.used()(stack[[1, 3, 4]]), blend(stack))
    np.testing.assert_allclose(blend.by_plain_view()(stack), stack[0] / 4 + stack[2] / 4 + stack[4] / 2)
    np.testing.assert_allclose(blend.without_runs()(stack[:4]), (stack[1] + stack[3]) / 2)
    geometric = (stack[1] * stack[3]) ** 0.25 * stack[4] ** 0.5
    geometric /= geometric.sum(1, keepdims=True)
    np.testing.assert_allclose(blend._replace(average="geometric")(stack), geometric)


def test_a_blend_is_read_as_it_was_written_and_knows_the_views_that_its_networks_must_see():
    members = ensembles.members_of([("head", "end"), ("all", "cycle1"), ("all", "end")], 5, ["big"])
    weights = np.array([0.5, 0, 0, 0, 0.125, 0.125, 0.25])
    read = ensembles.read(
        {"members": json.loads(json.dumps(ensembles.written(ensembles.Blend(members, weights, "", 0))))}
    )
    assert read.members == members and read.weights.tolist() == weights.tolist()
    assert ensembles.views_of(read.used().members) == {("head", "end"): 1, ("all", "end"): 5}
    candidates = [{"stage": "head", "networks": ["end"]}, {"stage": "all", "networks": ["cycle1", "end"]}]
    every = {("head", "end"): 3, ("all", "cycle1"): 3, ("all", "end"): 3}
    assert ensembles.views_of_candidates(candidates, 3) == every
    with pytest.raises(UserError, match="only other runs answer"):
        read._replace(weights=np.array([0, 0, 0, 0, 0, 0, 1.0])).without_runs()


@pytest.mark.parametrize("average, multi_label", [("arithmetic", False), ("geometric", False), ("geometric", True)])
def test_greedy_selection_takes_each_round_what_a_search_of_all_would(average, multi_label):
    stack, targets = stack_of(2, 4, 60, 3)
    truth = np.eye(3)[targets] if multi_label else targets
    weights = ensembles.greedy(stack, lambda p: scoring.log_loss(p, truth), average, multi_label)

    def loss(chosen):
        members = np.stack([stack[i] for i in chosen])
        mean = prediction.mean_members(members, np.full(len(chosen), 1 / len(chosen)), average, not multi_label)
        return scoring.log_loss(mean, truth)

    chosen, best = [], (np.inf, None)
    for _ in range(ensembles.ROUNDS):
        chosen = [*chosen, min(range(4), key=lambda i: loss([*chosen, i]))]
        best = min(best, (round(loss(chosen), 9), len(chosen)))
        if len(chosen) - best[1] >= ensembles.PATIENCE:
            break
    np.testing.assert_allclose(weights, np.bincount(chosen[: best[1]], minlength=4) / best[1])
    alone = [scoring.log_loss(member, truth) for member in stack]
    assert loss(chosen[: best[1]]) < min(alone)


def test_bagged_weights_are_the_mean_over_samples_and_the_same_each_time():
    seen = []

    def fit(rows):
        seen.append(rows)
        return np.bincount([rows[0] % 3], minlength=3)

    weights = ensembles.bagged(fit, 50)
    assert len(seen) == ensembles.BAGS and all(len(rows) == 50 and set(rows) < set(range(50)) for rows in seen)
    assert len({tuple(rows) for rows in seen}) == ensembles.BAGS
    np.testing.assert_allclose(weights, np.bincount([rows[0] % 3 for rows in seen], minlength=3) / ensembles.BAGS)
    np.testing.assert_array_equal(ensembles.bagged(fit, 50), weights)


def test_greedy_selection_leaves_out_a_member_that_only_harms():
    stack, targets = stack_of(3, 3, 200, 3)
    stack[1] = stack[1][:, ::-1]  # says the wrong class
    weights = ensembles.greedy(stack, lambda p: scoring.log_loss(p, targets), "arithmetic", False)
    assert weights[1] == 0 and weights.sum() == pytest.approx(1) and weights[0] > 0 and weights[2] > 0


def test_the_table_says_what_is_lost_without_each_member():
    stack, targets = stack_of(4, 3, 100, 3)
    members = [ensembles.Member(name, "end") for name in "abc"]
    blend = ensembles.Blend(members, np.array([0.5, 0.5, 0.0]), "arithmetic", False)
    table = ensembles.contributions(stack, blend, lambda p: scoring.log_loss(p, targets))
    assert [row["member"] for row in table] == [f"{name}, plain view" for name in "abc"]
    assert table[0]["without"] == scoring.log_loss(stack[1], targets)
    assert table[1]["alone"] == scoring.log_loss(stack[1], targets)
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
