"""Figures for people to look at, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from eightfold.predict import metrics, submission
from eightfold.review import review
from eightfold.review.held_out import HeldOut


def images_of(p, y, classes, rows=None, **tuned):
    """Held-out images called after their rows of the manifest, 0, 1, ... unless they are given."""
    rows = np.arange(len(p)) if rows is None else np.array(rows)
    decisions = metrics.decide(p, list(classes), y.ndim == 2, tuned)
    return HeldOut([f"image {row}" for row in rows], rows, p, y, decisions, list(classes))


def single(n=200, classes=5, seed=0):
    """Probabilities and class numbers, with many exact ties among both."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    scores = rng.integers(1, 8, (n, classes)).astype(float)
    scores[np.arange(n), targets] += rng.integers(0, 8, n)
    return scores / scores.sum(1, keepdims=True), targets


def several(n=150, classes=4, seed=1):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, classes)) < 0.3).astype(np.int64)
    return np.clip(np.round(0.3 + 0.4 * targets + rng.normal(0, 0.2, (n, classes)), 2), 0, 1), targets


def test_confusion_is_scikit_learns():
    p, y = single()
    assert (review.confusion(p.argmax(1), y, 5) == sk.confusion_matrix(y, p.argmax(1), labels=range(5))).all()


def test_confusion_of_several_labels_counts_by_hand():
    p, y = several()
    expected = np.zeros((4, 4), int)
    for chances, truth in zip(p, y, strict=True):
        for i in range(4):
            for j in range(4):
                found = chances[i] > 0.5 and truth[i]
                mixed = truth[i] and chances[i] <= 0.5 and chances[j] > 0.5 and not truth[j]
                expected[i, j] += bool(found if i == j else mixed)
    assert (review.confusion((p > 0.5).astype(int), y, 4) == expected).all()


def test_confused_pairs_are_the_largest_and_ties_keep_the_class_order():
    matrix = np.array([[5, 2, 0], [2, 9, 4], [0, 0, 3]])
    pairs = review.most_confused_pairs(matrix, ["a", "b", "c"])
    assert [(p["actual"], p["predicted"], p["count"]) for p in pairs] == [("b", "c", 4), ("a", "b", 2), ("b", "a", 2)]
    assert pairs[0]["share"] == pytest.approx(4 / 15)
    assert review.most_confused_pairs(np.diag([3, 4]), ["a", "b"]) == []


@pytest.mark.parametrize("data", [single, several])
def test_per_class_is_scikit_learns(data):
    p, y = data()
    guess = p.argmax(1) if y.ndim == 1 else (p > 0.4).astype(int)
    precision, recall, _, count = sk.precision_recall_fscore_support(y, guess, average=None, zero_division=np.nan)
    table = review.per_class(guess, y, [f"c{i}" for i in range(p.shape[1])])
    np.testing.assert_allclose(table["precision"], precision)
    np.testing.assert_allclose(table["recall"], recall)
    assert list(table["count"]) == list(count)
    for number, accuracy in enumerate(table["accuracy"]):
        one = (y == number, guess == number) if y.ndim == 1 else (y[:, number], guess[:, number])
        assert accuracy == pytest.approx(sk.accuracy_score(*one))


def test_a_class_that_is_absent_or_never_predicted_has_no_share():
    p, y = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]), np.array([0, 1])
    rows = review.tables(images_of(p, y, "abc"), "single", {})["per_class"]
    assert rows[1]["precision"] is None and rows[1]["recall"] == 0
    assert rows[2]["precision"] is None and rows[2]["recall"] is None


@pytest.mark.parametrize("data", [single, several])
def test_calibration_by_hand(data):
    p, y = data()
    if y.ndim == 1:
        pairs = [(max(c), int(np.argmax(c)) == t) for c, t in zip(p, y, strict=True)]
    else:
        pairs = [(max(c, 1 - c), (c > 0.5) == bool(t)) for c, t in zip(p.ravel(), y.ravel(), strict=True)]
    table, error = review.calibration_bins(p, y)
    assert sum(row["count"] for row in table) == len(pairs) and len(table) == 10
    total = 0
    for number, row in enumerate(table):
        inside = [(c, hit) for c, hit in pairs if min(int(c * 10), 9) == number]
        assert row["count"] == len(inside)
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            assert row["confidence"] == pytest.approx(confidence) and row["accuracy"] == pytest.approx(accuracy)
            total += abs(confidence - accuracy) * len(inside) / len(pairs)
    assert error == pytest.approx(total)


def test_log_loss_is_scikit_learns_and_has_a_standard_error():
    p, y = single()
    found = review.tables(images_of(p, y, "abcde"), "single", {})
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p, labels=range(5)))
    each = [-np.log(chances[t]) for chances, t in zip(p, y, strict=True)]
    assert found["log_loss_se"] == pytest.approx(np.std(each, ddof=1) / np.sqrt(len(each)))


def test_nothing_to_validate_is_no_error():
    for y in (np.zeros(0, int), np.zeros((0, 3), int)):
        p = np.zeros((0, 3))
        found = review.tables(images_of(p, y, "abc"), "single", {})
        assert found["images"] == 0 and found["ece"] is None and found["confused"] == []


# ---- what is answered


def test_the_tables_show_what_the_submission_answers_of_several_labels():
    """With a threshold of 0.2: against the cells of a submission of the same probabilities."""
    p, y = several()
    classes, tuned = list("abcd"), {"thresholds": 0.2}
    images = images_of(p, y, classes, **tuned)
    cells = submission.tabulate(
        images.ids, p, metrics.decide(p, classes, True, tuned), classes, "tags", None, submission.Layout()
    )
    answered = np.array([[name in cell.split(" ") for name in classes] for cell in cells["label"]])
    assert (answered == (p > 0.2)).all() and (answered != (p > 0.5)).any()
    found = review.tables(images, "multi", tuned)
    assert [row["predicted"] for row in found["per_class"]] == answered.sum(0).tolist()
    assert found["wrong"] == (answered != y).any(1).sum() and found["decided_by"] == "thresholds"
    diagonal = {f"{i},{i},{(answered & (y > 0))[:, i].sum()}" for i in range(4)}
    assert diagonal <= set(found["cells"].split(" "))


def test_the_tables_show_grades_as_the_submission_cuts_them():
    p, y = single(classes=4)
    grades, tuned = ["0", "1", "10", "2"], {"thresholds": None, "cut_points": [0.9, 1.4, 1.9]}  # 10 is the highest
    images = images_of(p, y, grades, **tuned)
    cells = submission.tabulate(
        images.ids, p, metrics.decide(p, grades, False, tuned), grades, "label", None, submission.Layout()
    )["label"]
    mean = p[:, [0, 1, 3, 2]] @ np.arange(4)
    assert cells.tolist() == [["0", "1", "2", "10"][sum(m >= cut for cut in tuned["cut_points"])] for m in mean]
    found = review.tables(images, "single", tuned)
    matrix = sk.confusion_matrix([grades[c] for c in y], cells, labels=grades)
    assert found["cells"] == " ".join(f"{i},{j},{matrix[i, j]}" for i, j in np.argwhere(matrix))
    assert found["decided_by"] == "cut_points" and found["wrong"] == len(y) - np.trace(matrix)
    assert found["wrong"] != (p.argmax(1) != y).sum()


def test_reliability_is_of_the_probabilities_whatever_is_answered():
    for p, y, tuned in ((*several(), {"thresholds": 0.2}), (*single(classes=4), {"cut_points": [0.1, 0.2, 0.3]})):
        one, other = (review.tables(images_of(p, y, "0123", **values), "any", values) for values in (tuned, {}))
        assert (
            one["calibration"] == other["calibration"] and one["ece"] == other["ece"] and one["cells"] != other["cells"]
        )
        assert other["decided_by"] is None
