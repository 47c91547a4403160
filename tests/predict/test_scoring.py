"""Figures of merit, against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from eightfold.net import scoring
from eightfold.predict import metrics


def single(seed, n=50, classes=4):
    random = np.random.default_rng(seed)
    return scoring.softmax(random.normal(0, 4, (n, classes))), random.integers(0, classes, n)


def multi_label(seed, n=50, classes=4):
    random = np.random.default_rng(seed)
    return scoring.sigmoid(random.normal(0, 4, (n, classes))), (random.random((n, classes)) < 0.4).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_single_label_figures_are_scikit_learns(seed):
    p, y = single(seed)
    assert scoring.accuracy(p, y) == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert scoring.log_loss(p, y) == pytest.approx(sk.log_loss(y, p, labels=range(4)))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_several_label_figures_are_scikit_learns(seed):
    p, y = multi_label(seed)
    assert scoring.accuracy(p, y) == pytest.approx(1 - sk.hamming_loss(y, p > 0.5))
    expected = np.mean([sk.log_loss(y[:, c], p[:, c], labels=[0, 1]) for c in range(4)])
    assert scoring.log_loss(p, y) == pytest.approx(expected)


def test_softmax_and_sigmoid_are_scipys_and_never_overflow():
    logits = np.random.default_rng(0).normal(0, 5, (3, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(scoring.softmax(logits), special.softmax(logits.astype(float), -1), rtol=1e-6)
    np.testing.assert_allclose(scoring.sigmoid(logits), special.expit(logits.astype(float)), rtol=1e-9, atol=1e-15)
    far = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert scoring.softmax(far).tolist() == [[1, 0, 0]] and scoring.sigmoid(far).tolist() == [[1, 0, 0.5]]
    assert scoring.softmax(logits).sum(-1) == pytest.approx(np.ones((3, 6)))


def test_a_confident_mistake_is_bounded():
    p, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1])
    assert scoring.log_loss(p, y) == pytest.approx(-np.log(1e-15) / 2)
    assert scoring.log_loss(p, y, clip=0.01) == pytest.approx(-(np.log(0.01) + np.log(0.99)) / 2)
    assert scoring.log_loss(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-15), rel=0.01)


def test_summary():
    p, y = single(3)
    assert metrics.summary(p, y) == {
        "accuracy": scoring.accuracy(p, y),
        "log_loss": scoring.log_loss(p, y),
        "images": 50,
    }
