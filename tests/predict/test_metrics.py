"""Every metric against scikit-learn or its definition in plain loops; and a metric that does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from eightfold.core.files import UserError
from eightfold.net import scoring
from eightfold.predict import metrics


def single(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and class numbers; every class occurs."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 6, (n, classes)).astype(float)
    return scores / scores.sum(1, keepdims=True), rng.permutation(np.arange(n) % classes)


def multi_label(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hot = rng.random((n, classes)) < 0.4
    hot[0], hot[1] = True, False
    return rng.integers(0, 11, (n, classes)) / 10, hot.astype(np.float32)


CASES = st.tuples(st.integers(0, 999), st.integers(12, 40), st.integers(3, 6))


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_single_label_metrics_are_scikit_learn_s(case):
    p, t = single(*case)
    said = p.argmax(1)
    np.testing.assert_allclose(scoring.log_loss(p, t), reference.log_loss(t, p, labels=range(p.shape[1])))
    np.testing.assert_allclose(scoring.accuracy(p, t), reference.accuracy_score(t, said))
    np.testing.assert_allclose(metrics.balanced_accuracy(said, t), reference.balanced_accuracy_score(t, said))
    for kind in ("macro", "micro", "weighted"):
        ours = getattr(metrics, f"f1_{kind}")(said, t)
        np.testing.assert_allclose(ours, reference.f1_score(t, said, average=kind, zero_division=0))
    np.testing.assert_allclose(metrics.roc_auc(p, t), reference.roc_auc_score(t, p, multi_class="ovr"))
    hot = np.eye(p.shape[1])[t]
    np.testing.assert_allclose(metrics.average_precision(p, t), reference.average_precision_score(hot, p))
    # Both are 1 minus a quotient, so near 0 they may differ by the rounding of 1.
    kappa = reference.cohen_kappa_score(t, said, weights="quadratic")
    np.testing.assert_allclose(metrics.quadratic_weighted_kappa(said, t), kappa, atol=4 * np.finfo(float).eps)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_multi_label_metrics_are_scikit_learn_s(case):
    p, t = multi_label(*case)
    said = (p > 0.5).astype(int)
    for kind in ("macro", "micro", "weighted"):
        ours = getattr(metrics, f"f1_{kind}")(said, t)
        np.testing.assert_allclose(ours, reference.f1_score(t, said, average=kind, zero_division=0))
    for beta in (0.5, 1, 2):
        expected = reference.fbeta_score(t, said, beta=beta, average="samples", zero_division=0)
        np.testing.assert_allclose(metrics.fbeta_samples(said, t, beta), expected)
    np.testing.assert_allclose(metrics.roc_auc(p, t), reference.roc_auc_score(t, p))
    np.testing.assert_allclose(metrics.average_precision(p, t), reference.average_precision_score(t, p))
    losses = [reference.log_loss(t[:, c], p[:, c], labels=[0, 1]) for c in range(t.shape[1])]
    np.testing.assert_allclose(scoring.log_loss(p, t, clip=np.finfo(float).eps), np.mean(losses))


def test_two_classes_are_scored_by_the_positive_one():
    p, t = single(3, 30, 2)
    for column in (0, 1):
        truth = t == column
        np.testing.assert_allclose(metrics.roc_auc(p, t, column), reference.roc_auc_score(truth, p[:, column]))
        ours = metrics.average_precision(p, t, column)
        np.testing.assert_allclose(ours, reference.average_precision_score(truth, p[:, column]))


@settings(max_examples=40, deadline=None)
@given(CASES, st.integers(1, 2))
def test_ranked_answers_by_their_definition(case, k):
    rng = np.random.default_rng(case[0])
    _, n, classes = case
    p = rng.random((n, classes))
    p /= p.sum(1, keepdims=True)
    t = rng.integers(0, classes, n)
    hot = multi_label(*case)[1]
    total_one = total_many = missed = 0.0
    for row in range(n):
        ranked = sorted(range(classes), key=lambda c: -p[row, c])[:k]
        total_one += 1 / (ranked.index(t[row]) + 1) if t[row] in ranked else 0
        missed += t[row] not in ranked
        right, score = 0, 0.0
        for place, c in enumerate(ranked, 1):
            if hot[row, c]:
                right += 1
                score += right / place
        total_many += score / max(1, min(k, int(hot[row].sum())))
    np.testing.assert_allclose(metrics.map_at_k(p, t, k), total_one / n)
    np.testing.assert_allclose(metrics.map_at_k(p, hot, k), total_many / n)
    np.testing.assert_allclose(metrics.top_k_error(p, t, k), missed / n)
    np.testing.assert_allclose(
        metrics.top_k_error(p, t, k), 1 - reference.top_k_accuracy_score(t, p, k=k, labels=range(classes))
    )


def test_columns_without_both_kinds_of_rows_are_left_out_and_none_is_a_coin():
    p, t = single(4, 30, 4)
    only = np.where(t == 3, 0, t)  # class 3 never occurs: its column says nothing
    both = [reference.roc_auc_score(only == c, p[:, c]) for c in range(3)]
    np.testing.assert_allclose(metrics.roc_auc(p, only), np.mean(both))
    found = [reference.average_precision_score(only == c, p[:, c]) for c in range(3)]
    np.testing.assert_allclose(metrics.average_precision(p, only), np.mean(found))
    for of in (metrics.roc_auc, metrics.average_precision):
        assert of(p, np.ones(30, int)) == of(p[:, :2], np.zeros(30, int)) == of(p, np.zeros((30, 4))) == 0.5


def test_scores_that_are_all_equal_order_nothing():
    p, t = np.full((10, 2), 0.5), np.arange(10) % 5 == 0
    assert metrics.roc_auc(p, t.astype(int)) == 0.5
    np.testing.assert_allclose(metrics.average_precision(p, t.astype(int)), 0.2)  # the share of positive rows


def test_kappa_and_balanced_accuracy_where_classes_are_absent():
    one = np.ones(4, int)
    assert metrics.quadratic_weighted_kappa(one, one) == metrics.balanced_accuracy(one, one) == 1.0
    # Grades 2 and 3 do not occur; from 1 to 4 is three steps all the same.
    said, truth = np.array([0, 4, 4, 1]), np.array([0, 4, 1, 1])
    expected = reference.cohen_kappa_score(truth, said, weights="quadratic", labels=range(5))
    np.testing.assert_allclose(metrics.quadratic_weighted_kappa(said, truth), expected)
    np.testing.assert_allclose(expected, 1 - 9 / 24)
    assert metrics.balanced_accuracy(np.array([0, 1, 2]), np.array([0, 0, 0])) == pytest.approx(
        1 / 3
    )  # no recall of 1, 2


def test_the_clip_bounds_a_confident_mistake():
    p, t = np.array([[1.0, 0.0], [0.3, 0.7]]), np.array([1, 1])
    expected = -(np.log(0.01) + np.log(0.7)) / 2
    np.testing.assert_allclose(scoring.log_loss(p, t, clip=0.01), expected)


def test_a_number_in_the_name_takes_the_place_of_k():
    p, t = single(1, 30, 6)
    judge = metrics.Judge("map_at_3", "single", list("abcdef"))
    assert judge(p, t) == metrics.map_at_k(p, t, 3) and judge.better(0.4, 0.3)
    judge = metrics.Judge("top_2_error", "single", list("abcdef"))
    assert judge(p, t) == metrics.top_k_error(p, t, 2) and judge.better(0.3, 0.4)


def test_grades_are_ordered_as_numbers_not_as_text():
    classes = ["0", "1", "10", "2"]  # as sorted text
    p = np.eye(4)[[0, 1, 2, 3, 3]]
    truth = np.array([0, 1, 2, 3, 2])  # the last: grade 10 taken for 2
    judge = metrics.Judge("quadratic_weighted_kappa", "single", classes)
    rank = np.array([0, 1, 3, 2])
    expected = reference.cohen_kappa_score(rank[truth], rank[p.argmax(1)], weights="quadratic")
    np.testing.assert_allclose(judge(p, truth), expected)
    assert judge.decide(p, {"cut_points": [0.5, 1.5, 2.5]}).tolist() == [0, 1, 2, 3, 3]


def test_what_is_answered_by_hand():
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert metrics.decide(p, "abc", False).tolist() == [1, 0]
    assert metrics.decide(p, "abc", True).tolist() == [[0, 0, 0], [1, 0, 0]]  # 0.5 is not above 0.5
    assert metrics.decide(p, "abc", True, {"thresholds": 0.25}).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert metrics.decide(p, "abc", True, {"thresholds": [0.1, 0.6, 0.3]}).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert metrics.decide(p, "abc", True, {"thresholds": None}).tolist() == [[0, 0, 0], [1, 0, 0]]
    assert metrics.decide(p[:0], "abc", False).shape == (0,) and metrics.decide(p[:0], "abc", True).shape == (0, 3)


def test_cut_points_decide_grades_in_their_natural_order():
    grades = ["0", "1", "10", "2"]  # as they are sorted; 10 is the highest
    p = np.array([[0, 0, 1.0, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]])
    assert metrics.decide(p, grades, False, {"cut_points": [0.5, 1.4, 2.5]}).tolist() == [2, 3, 0]
    assert metrics.decide(p, grades, False, {"cut_points": None}).tolist() == [2, 0, 0]


def test_grades_rise_in_their_natural_order():
    assert metrics.grade_order(["0", "1", "10", "2"]).tolist() == [0, 1, 3, 2]
    assert metrics.grade_order(["-1", "-2", "0.25", "0.5"]).tolist() == [1, 0, 2, 3]
    names = ["grade 1", "grade 10", "grade 2"]
    assert metrics.grade_order(names).tolist() == [0, 2, 1]
    metrics.check_fit("quadratic_weighted_kappa", "single", names, ordered=True)
    judge, truth = metrics.Judge("quadratic_weighted_kappa", "single", names), np.array([0, 1, 2, 2])
    p = np.eye(3)[[0, 2, 2, 2]]  # once "grade 2" for "grade 10": one step off, of two
    assert judge(p, truth) == pytest.approx(
        reference.cohen_kappa_score([0, 2, 1, 1], [0, 1, 1, 1], weights="quadratic")
    )


@pytest.mark.parametrize(
    "name, task, classes, words",
    [
        ("fbeta_samples", "single", "abc", "does not fit a job that has one label"),
        ("quadratic_weighted_kappa", "single", "abc", "set data.ordered: true"),
        ("quadratic_weighted_kappa", "multi", "012", "several labels"),
        ("balanced_accuracy", "multi", "abc", "several labels"),
        ("map_at_5", "single", "ab", "two classes"),
        ("map_at_5", "single", "abcd", "5 of 4 classes"),
        ("top_3_error", "single", "abc", "k must be 1 to 2"),
        ("top_3_error", "multi", "abcde", "several labels"),
        ("map_at_k", "single", "abc", "none of log_loss"),
        ("aucc", "single", "abc", "none of log_loss"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(name, task, classes, words):
    with pytest.raises(UserError, match=words):
        metrics.check_fit(name, task, list(classes))


@pytest.mark.parametrize("name", [name for name in metrics.METRICS if "_k" not in name or "kappa" in name])
def test_every_metric_fits_some_job_and_a_perfect_answer_is_the_best(name):
    fits = metrics.named(name).fits
    if "multi" in fits:
        t = multi_label(0, 20, 3)[1]
        t[:, 0] = t.sum(1) == 0  # no row without a label
        p, task = t.astype(float), "multi"
    else:
        t = np.arange(20) % 3
        p, task = np.eye(3)[t], "single"
    metrics.check_fit(name, task, ["0", "1", "2"])
    judge = metrics.Judge(name, task, ["0", "1", "2"])
    best = 1.0 if judge.metric.greater_is_better else 0.0
    t, p = t[t.sum(-1) > 0] if task == "multi" else t, p[t.sum(-1) > 0] if task == "multi" else p
    np.testing.assert_allclose(judge(p, t), best, atol=1e-12)
