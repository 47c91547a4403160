"""What is fitted on out-of-fold predictions: the optimum is found, the honest figure never sees its own rows."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, fbeta_score

from eightfold.net import scoring
from eightfold.predict import metrics, tuning
from eightfold.predict.metrics import Judge

ALL = {"temperature": True, "clip": True, "thresholds": "global"}


def overconfident(seed: int, n: int, classes: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, ``factor`` times too large, of labels drawn from the honest ones; as probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, classes))
    honest = scoring.softmax(logits)
    targets = np.array([rng.choice(classes, p=row) for row in honest])
    return scoring.softmax(factor * logits), targets


def tagged(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, (n, classes))
    hot = (rng.random((n, classes)) < scoring.sigmoid(logits)).astype(np.float32)
    return scoring.sigmoid(logits), hot


def graded(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.minimum(rng.geometric(0.45, n) - 1, classes - 1)
    seen = targets[:, None] + rng.normal(0.6, 0.8, (n, 1))
    return scoring.softmax(-((seen - np.arange(classes)) ** 2)), targets


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_known_factor(factor):
    p, t = overconfident(0, 4000, 5, factor)
    found = tuning.fit_temperature(p, t)
    assert abs(found / factor - 1) < 0.1
    # One image in n + 2 is taken to be wrong, in any of the other classes.
    wanted = np.full(p.shape, 1 / 4002 / 4)
    wanted[np.arange(4000), t] = 4001 / 4002

    def loss(temperature: float) -> float:
        return -(wanted * np.log(tuning.with_temperature(p, temperature, False))).sum(1).mean()

    assert loss(found) <= min(map(loss, np.geomspace(0.1, 10, 400))) + 1e-6


@pytest.mark.parametrize("tags", [False, True])
@pytest.mark.parametrize("n", [20, 50])
def test_few_images_that_are_all_right_do_not_make_the_answer_surer_than_they_show(n, tags):
    """Of images right 97 times in 100 some fifty are often all right; fitted to these, the temperature would go to 0."""
    rng, worse = np.random.default_rng(n), []
    judge = Judge("log_loss", "multi" if tags else "single", ["a", "b"])
    for _ in range(20):
        logit = rng.choice([-1, 1], (n + 5000, 1)) * rng.uniform(2, 6, (n + 5000, 1))
        p = scoring.sigmoid(np.hstack([logit, -logit]))
        first = rng.random(n + 5000) < p[:, 0]
        t = np.column_stack([first, ~first]).astype(np.float32) if tags else np.where(first, 0, 1)
        if not (first == (p[:, 0] > 0.5))[:n].all():
            continue
        values = tuning.tune(p[:n], t[:n], np.arange(n) % 5, judge, ALL | {"thresholds": None}).values
        answer = tuning.clipped(tuning.with_temperature(p[n:], values["temperature"], tags), values["clip"], tags)
        worse.append(scoring.log_loss(answer, t[n:]) - scoring.log_loss(p[n:], t[n:]))
    assert len(worse) >= 4 and max(worse) < 0.01, worse


def test_the_temperature_of_tags_divides_their_logits():
    p, hot = tagged(1, 500, 4)
    again = tuning.with_temperature(tuning.with_temperature(p, 2.0, True), 0.5, True)
    np.testing.assert_allclose(again, p, atol=1e-9)
    sharp = scoring.sigmoid(4 * np.log(p / (1 - p)))
    assert abs(tuning.fit_temperature(sharp, hot) / 4 - 1) < 0.2


def test_calibration_lowers_the_cross_fitted_log_loss_and_says_so():
    p, t = overconfident(2, 600, 3, 3.0)
    parts = np.arange(600) % 5
    found = tuning.tune(p, t, parts, Judge("log_loss", "single", list("abc")), ALL)
    step = found.steps[0]
    assert step["what"] == "temperature" and step["used"] and step["after"] < step["before"]
    assert step["in_sample"] <= step["after"]
    np.testing.assert_allclose(step["after"], scoring.log_loss(found.probabilities, t))
    # Each part was answered with the temperature of the others, and of them alone.
    for part in range(5):
        inside = parts == part
        alone = tuning.fit_temperature(p[~inside], t[~inside])
        np.testing.assert_allclose(found.probabilities[inside], tuning.with_temperature(p[inside], alone, False))


def test_a_step_that_does_not_help_unseen_rows_is_not_used():
    rng = np.random.default_rng(3)
    p, t = np.full((30, 2), 0.5), rng.permutation(np.arange(30) % 2)
    found = tuning.tune(p, t, np.arange(30) % 5, Judge("log_loss", "single", list("ab")), ALL)
    assert not any(step["used"] for step in found.steps)
    assert found.values == tuning.untuned("log_loss")
    np.testing.assert_array_equal(found.probabilities, p)


def test_the_clip_is_found_where_confident_mistakes_are():
    t = np.arange(400) % 2
    p = np.eye(2)[t] * 0.998 + 0.001
    p[:8] = p[:8, ::-1]  # 2 % confidently wrong
    clip = tuning.fit_clip(p, t)
    losses = {c: scoring.log_loss(tuning.clipped(p, c, False), t) for c in tuning.CLIPS}
    assert clip == min(losses, key=losses.get) == 0.02
    judge, settings = Judge("log_loss", "single", list("ab")), ALL | {"temperature": False}
    found = tuning.tune(p, t, np.random.default_rng(0).permutation(400) % 4, judge, settings)
    assert found.values["clip"] > 0 and found.steps[-1]["after"] < found.steps[-1]["before"]


def test_the_threshold_is_the_best_of_a_brute_force_search_and_beats_the_lesson_s_range():
    p, hot = tagged(4, 300, 5)
    judge = Judge("fbeta_samples", "multi", list("abcde"))
    cut = tuning.fit_threshold(judge, p, hot)

    def f2(threshold):
        return fbeta_score(hot, p > threshold, beta=2, average="samples", zero_division=0)

    assert f2(cut) >= max(f2(c) for c in np.arange(0.01, 1, 0.01)) - 1e-12
    step = tuning.tune(p, hot, np.arange(300) % 3, judge, ALL).steps[-1]
    assert step["what"] == "thresholds" and step["in_sample"] >= step["course"]["in_sample"]
    assert 0.17 <= step["course"]["threshold"] <= 0.24


@pytest.mark.parametrize("name", ["f1_macro", "f1_micro", "fbeta_samples"])
def test_thresholds_per_class_are_at_least_as_good_as_one(name):
    rng = np.random.default_rng(5)
    p, hot = tagged(5, 300, 4)
    p = p ** rng.uniform(0.3, 3, 4)  # each class wrong in its own way
    judge = Judge(name, "multi", list("abcd"))
    each = tuning.fit_thresholds(judge, p, hot)
    one, own = ({"thresholds": cuts} for cuts in (tuning.fit_threshold(judge, p, hot), each))
    assert len(each) == 4
    assert judge.of_decisions(judge.decide(p, own), hot) > judge.of_decisions(judge.decide(p, one), hot)


def test_cut_points_raise_the_kappa_of_biased_grades_on_rows_they_never_saw():
    classes = ["0", "1", "10", "2", "3"]  # grades in the order of text
    p, rank = graded(6, 600, 5)
    order = metrics.grade_order(classes)
    shuffled, targets = np.empty_like(p), order[rank]
    shuffled[:, order] = p
    judge = Judge("quadratic_weighted_kappa", "single", classes)
    found = tuning.tune(shuffled, targets, np.arange(600) % 5, judge, ALL)
    step = found.steps[-1]
    assert step["what"] == "cut_points" and step["used"] and step["after"] > step["before"] + 0.02
    cuts = found.values["cut_points"]
    assert len(cuts) == 4 and cuts == sorted(cuts)
    grade = np.argsort(order)[found.decisions]
    np.testing.assert_allclose(step["after"], cohen_kappa_score(rank, grade, weights="quadratic"))


def test_parts_are_the_folds_or_a_random_deal():
    folds = np.array([0, 0, 3, 3])
    assert tuning.parts_of(folds, 0).tolist() == [0, 0, 1, 1]
    dealt = tuning.parts_of(np.zeros(23, int), 7)
    assert sorted(np.bincount(dealt)) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(dealt, tuning.parts_of(np.zeros(23, int), 7))


def test_too_few_rows_are_left_as_they_are():
    p, t = overconfident(0, 6, 3, 9.0)
    found = tuning.tune(p, t, np.arange(6) % 2, Judge("log_loss", "single", list("abc")), ALL)
    assert found.steps == [] and found.values == tuning.untuned("log_loss")


# ---- the mean of five folds, eight seeds


def five_folds(seed: int, multi_label: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities out of fold, their truth and folds; those of the mean of the folds on other images, and their truth.

    Each of the five networks knows the logits under noise of its own, and is surer than it should be.
    """
    rng = np.random.default_rng(seed)
    n, others = 250, 1000
    logits = rng.normal(-1 if multi_label else 0, 1.5, (n + others, 4))
    if multi_label:
        link, truth = scoring.sigmoid, (rng.random(logits.shape) < scoring.sigmoid(logits)).astype(float)
    else:
        link, truth = scoring.softmax, np.array([rng.choice(4, p=row) for row in scoring.softmax(logits)])
    fold = np.arange(n) % 5
    networks = link(1.5 * (logits + rng.normal(0, 1.5, (5, *logits.shape))))
    return networks[fold, np.arange(n)], truth[:n], fold, networks[:, n:].mean(0), truth[n:]


def test_a_temperature_of_single_networks_spoils_the_mean_of_folds_and_is_not_put_on_it():
    with_it, judge = [], Judge("log_loss", "single", list("abcd"))
    for seed in range(8):
        p, truth, fold, mean, hidden = five_folds(seed, multi_label=False)
        settings = {"temperature": True, "clip": True, "thresholds": "global"}
        found = tuning.tune(p, truth, fold, judge, settings)
        assert found.values["temperature"] > 1.2  # each network for itself wants it
        cooled = tuning.with_temperature(mean, found.values["temperature"], False)
        with_it.append(scoring.log_loss(cooled, hidden) - scoring.log_loss(mean, hidden))
        kept = tuning.tune(p, truth, fold, judge, tuning.for_an_average(settings))
        assert kept.values == tuning.untuned("log_loss")
    assert np.mean(with_it) > 3 * np.std(with_it, ddof=1) / 8**0.5 > 0


@pytest.mark.parametrize("kind", ["global", "per_class"])
def test_thresholds_of_single_networks_never_harm_the_mean_of_folds_by_more_than_the_standard_error(kind):
    judge, gains = Judge("fbeta_samples", "multi", list("abcd")), []
    for seed in range(8):
        p, truth, fold, mean, hidden = five_folds(seed, multi_label=True)
        settings = tuning.for_an_average({"temperature": True, "clip": True, "thresholds": kind})
        cut = tuning.tune(p, truth, fold, judge, settings).values["thresholds"]
        tuned = judge.decide(mean, {"thresholds": cut})
        gains.append(judge.of_decisions(tuned, hidden) - judge.of_decisions(judge.decide(mean), hidden))
    error = np.std(gains, ddof=1) / 8**0.5
    assert min(gains) > -error and np.mean(gains) > 3 * error
