"""The convex answer against scikit-learn's on the same features, closed forms, and what a degenerate job asks of it."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from eightfold.inputs import dataset, stratify
from eightfold.net import scoring
from eightfold.train import linear


def data(
    images: int, features: int, classes: int, seed: int = 0, noise: float = 2.0
) -> tuple[torch.Tensor, np.ndarray]:
    """Raw features (images, features), float32, of uneven scale and offset, and a class for each image."""
    random = np.random.default_rng(seed)
    targets = np.arange(images) % classes
    centres = random.normal(size=(classes, features))
    x = centres[targets] + random.normal(0, noise, (images, features))
    return torch.from_numpy(
        (x * random.uniform(0.1, 5, features) + random.uniform(0, 9, features)).astype(np.float32)
    ), targets


def labels(images: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Raw features (images, 6) and n-hot targets, float32 (images, classes), that depend on them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(images, 6))
    hot = (x @ random.normal(size=(6, classes)) + random.normal(size=(images, classes)) > 0).astype(np.float32)
    return torch.from_numpy((3 * x + 1).astype(np.float32)), hot


def no_choice(images: int) -> np.ndarray:
    """Inner folds that hold nothing out, so that the strength is the default."""
    return np.full(images, dataset.ALWAYS_TRAIN)


def reference(x: np.ndarray, targets: np.ndarray, c: float, weights: np.ndarray | None = None) -> LogisticRegression:
    return LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(x, targets, sample_weight=weights)


def test_many_classes_have_scikit_learns_logits_on_the_same_standardised_features():
    x, targets = data(120, 8, 4)
    layer, path = linear.fit([x], targets, 4, no_choice(120))
    scaler = StandardScaler().fit(x.numpy().astype(float))
    theirs = reference(scaler.transform(x.numpy().astype(float)), targets, path.chosen)
    with torch.no_grad():
        ours = layer(x).numpy()
    expected = theirs.decision_function(scaler.transform(x.numpy().astype(float)))
    assert path.chosen == linear.DEFAULT_C and path.losses == []
    np.testing.assert_allclose(ours - ours.mean(1, keepdims=True), expected, atol=1e-4)


def test_two_classes_are_scikit_learns_at_twice_the_strength():
    x, targets = data(90, 5, 2)
    layer, path = linear.fit([x], targets, 2, no_choice(90))
    scaler = StandardScaler().fit(x.numpy().astype(float))
    theirs = reference(scaler.transform(x.numpy().astype(float)), targets, 2 * path.chosen)
    with torch.no_grad():
        ours = scoring.softmax(layer(x).numpy())
    np.testing.assert_allclose(ours, theirs.predict_proba(scaler.transform(x.numpy().astype(float))), atol=1e-5)


def test_each_label_of_several_is_a_job_of_its_own():
    x, hot = labels(80, 3)
    layer, path = linear.fit([x], hot, 3, no_choice(80))
    scaled = StandardScaler().fit_transform(x.numpy().astype(float))
    with torch.no_grad():
        ours = scoring.sigmoid(layer(x).numpy())
    for label in range(3):
        theirs = reference(scaled, hot[:, label], path.chosen).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(ours[:, label], theirs, atol=1e-5)


def test_an_image_weighs_the_same_however_many_views_it_has():
    x, targets = data(60, 5, 3)
    random = np.random.default_rng(1)
    views = [x, *(x + torch.from_numpy(random.normal(0, 1, x.shape).astype(np.float32)) for _ in range(2))]
    layer, path = linear.fit(views, targets, 3, no_choice(60))
    stacked = torch.cat(views).numpy().astype(float)
    scaler = StandardScaler().fit(stacked)
    theirs = reference(scaler.transform(stacked), np.tile(targets, 3), path.chosen, np.full(180, 1 / 3))
    with torch.no_grad():
        ours = scoring.softmax(layer(x).numpy())
    np.testing.assert_allclose(ours, theirs.predict_proba(scaler.transform(x.numpy().astype(float))), atol=1e-5)
    # And what is there three times over gives what is there once.
    once, thrice = (linear.fit([x] * count, targets, 3, no_choice(60))[0] for count in (1, 3))
    torch.testing.assert_close(once.weight, thrice.weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("multi", [False, True], ids=["one label", "several labels"])
def test_the_penalised_loss_has_no_gradient_at_the_answer(multi):
    x, targets = labels(50, 3) if multi else data(50, 7, 3)
    x = x.double()
    standard = linear.standard_of(x)
    rows = linear.rotated((x - standard.mean) / standard.scale)
    truth, weights = torch.from_numpy(targets), torch.linspace(0.5, 1.5, 50, dtype=torch.float64)
    truth = truth.double() if multi else truth
    start = torch.zeros(rows.z.shape[1], 3).double(), torch.zeros(3).double()
    w, b = linear.minimum(rows, truth, weights, 0.1, start, 1e-9)
    # By autograd, in the unrotated features, by the formula of the module.
    w, b = (rows.axes @ w).requires_grad_(), b.requires_grad_()
    logits = (x - standard.mean) / standard.scale @ w + b
    if multi:
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)
    else:
        each = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
    (w.square().sum() / 2 + 0.1 * (weights * each).sum()).backward()
    assert w.grad.abs().max() < 1e-6 and b.grad.abs().max() < 1e-6 and w.abs().max() > 0.01


@given(
    images=st.integers(4, 30),
    features=st.integers(1, 40),
    classes=st.integers(2, 4),
    multi=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_the_gradients_are_those_of_autograd(images, features, classes, multi, seed):
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(images, features, generator=random, dtype=torch.float64)
    share = torch.rand(images, generator=random, dtype=torch.float64)
    share /= share.sum()
    w = torch.randn(features, classes, generator=random, dtype=torch.float64, requires_grad=True)
    b = torch.randn(classes, generator=random, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 2 if multi else classes, (images, classes)[: 1 + multi], generator=random)
    targets = targets.double() if multi else targets
    function = torch.nn.functional.binary_cross_entropy_with_logits if multi else torch.nn.functional.cross_entropy
    each = function(z @ w + b, targets, reduction="none")
    wanted = (share * (each.sum(1) if multi else each)).sum()
    wanted.backward()
    loss, by_w, by_b = linear.loss_and_gradients(z, targets, share, w.detach(), b.detach())
    assert loss == pytest.approx(wanted.item())
    torch.testing.assert_close(by_w, w.grad)
    torch.testing.assert_close(by_b, b.grad)


@given(images=st.integers(2, 30), features=st.integers(1, 30), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_rotation_keeps_all_distances_and_its_axes_are_at_right_angles(images, features, seed):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(images, features)))
    z, axes, variances = linear.rotated(x)
    assert z.shape == (images, axes.shape[1]) and axes.shape[1] <= min(images, features)
    torch.testing.assert_close(z, x @ axes)
    torch.testing.assert_close(z @ z.T, x @ x.T)
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1]).double())
    torch.testing.assert_close(z.square().mean(0), variances)


def test_fewer_images_than_features_give_the_answer_of_the_whole_problem():
    x, targets = data(20, 50, 2)
    layer, path = linear.fit([x], targets, 2, no_choice(20))
    scaled = StandardScaler().fit_transform(x.numpy().astype(float))
    theirs = reference(scaled, targets, 2 * path.chosen)
    with torch.no_grad():
        np.testing.assert_allclose(scoring.softmax(layer(x).numpy()), theirs.predict_proba(scaled), atol=1e-5)


@pytest.mark.parametrize("narrow", [False, True])
def test_the_folded_layer_is_the_standardised_one(narrow, monkeypatch):
    x, _ = data(30, 6, 3)
    standard = linear.standard_of(x)
    np.testing.assert_allclose(standard.mean.numpy(), x.double().numpy().mean(0))
    np.testing.assert_allclose(standard.scale.numpy(), x.double().numpy().std(0))
    weight, bias = torch.randn(3, 6).double(), torch.randn(3).double()
    layer = linear.folded(weight, bias, standard)
    assert layer.weight.dtype == torch.float32 and isinstance(layer, torch.nn.Linear)
    wanted = ((x.double() - standard.mean) / standard.scale) @ weight.T + bias
    torch.testing.assert_close(layer(x).double(), wanted, atol=1e-4, rtol=1e-4)


def test_float32_rows_give_the_answer_of_float64_ones(monkeypatch):
    x, targets = data(100, 12, 3)
    wide, _ = linear.fit([x], targets, 3, no_choice(100))
    monkeypatch.setattr(linear, "FLOAT64_BYTES", 0)
    narrow, _ = linear.fit([x], targets, 3, no_choice(100))
    torch.testing.assert_close(narrow(x), wide(x), atol=1e-3, rtol=1e-3)


def test_a_constant_feature_has_no_weight_and_harms_nothing():
    x, targets = data(40, 4, 2)
    constant = torch.full((40, 2), 0.1) * torch.tensor([0.0, 3.0])
    layer, _ = linear.fit([torch.cat([x, constant], 1)], targets, 2, no_choice(40))
    alone, _ = linear.fit([x], targets, 2, no_choice(40))
    assert (layer.weight[:, 4:] == 0).all() and layer.weight.isfinite().all()
    torch.testing.assert_close(layer.weight[:, :4], alone.weight, atol=1e-5, rtol=1e-4)


def test_features_that_are_all_constant_answer_with_the_classes_shares():
    targets = np.array([0, 0, 0, 1])
    layer, _ = linear.fit([torch.full((4, 3), 2.5)], targets, 2, np.array([0, 1, 2, 0]))
    with torch.no_grad():
        np.testing.assert_allclose(scoring.softmax(layer(torch.full((1, 3), 2.5)).numpy()), [[0.75, 0.25]], atol=1e-4)


def test_a_class_without_an_image_gets_a_finite_and_low_probability():
    x, targets = data(60, 5, 3)
    targets = np.array([0, 2, 3])[targets]  # of five classes, 1 and 4 have none
    layer, _ = linear.fit([x], targets, 5, np.arange(60) % 5)
    with torch.no_grad():
        probabilities = scoring.softmax(layer(x).numpy())
    assert np.isfinite(layer.weight.detach().numpy()).all() and (probabilities[:, [1, 4]] > 0).all()
    assert (probabilities[:, [1, 4]] < 1 / 61).all()
    present, _ = linear.fit([x], np.unique(targets, return_inverse=True)[1], 3, np.arange(60) % 5)
    with torch.no_grad():
        alone = scoring.softmax(present(x).numpy())
    kept = probabilities[:, [0, 2, 3]]
    np.testing.assert_allclose(kept / kept.sum(1, keepdims=True), alone, atol=1e-5)


def test_a_single_class_is_answered_with_certainty_but_for_the_absent_ones():
    x, _ = data(9, 4, 2)
    layer, path = linear.fit([x], np.ones(9, np.int64), 3, np.arange(9) % 3)
    with torch.no_grad():
        np.testing.assert_allclose(scoring.softmax(layer(x).numpy()), [[1 / 12, 10 / 12, 1 / 12]] * 9, atol=1e-6)
    assert path.losses == []


def test_a_label_that_all_or_none_have_is_answered_with_its_odds():
    x, hot = labels(30, 3)
    hot[:, 0], hot[:, 2] = 1, 0
    layer, path = linear.fit([x], hot, 3, np.arange(30) % 3)
    with torch.no_grad():
        ours = scoring.sigmoid(layer(x).numpy())
    np.testing.assert_allclose(ours[:, 0], 30.5 / 31, atol=1e-5)
    np.testing.assert_allclose(ours[:, 2], 0.5 / 31, atol=1e-5)
    assert len(path.losses) > 1 and ours[:, 1].std() > 0.05


def test_the_strength_is_the_one_that_scikit_learn_finds_best_on_the_same_folds():
    x, targets = data(150, 10, 3, noise=3.0)
    inner = stratify.stratified(targets, 5, 7)
    _, path = linear.fit([x], targets, 3, inner)
    scaled = StandardScaler().fit_transform(x.numpy().astype(float))

    def loss(c: float) -> float:
        losses = []
        for fold in range(5):
            answered = reference(scaled[inner != fold], targets[inner != fold], c).predict_proba(scaled[inner == fold])
            losses += (-np.log(answered[np.arange(len(answered)), targets[inner == fold]])).tolist()
        return float(np.mean(losses))

    theirs = [loss(c) for c in path.strengths]
    np.testing.assert_allclose(path.losses, theirs, atol=1e-3)
    assert (
        path.strengths == list(linear.GRID[: len(path.strengths)]) and path.chosen == path.strengths[np.argmin(theirs)]
    )


def test_the_path_ends_when_the_loss_has_risen_and_the_best_is_not_at_its_end():
    x, targets = data(60, 40, 2, noise=6.0)
    steps = []
    _, path = linear.fit([x], targets, 2, np.arange(60) // 2 % 5, on_step=lambda: steps.append(1))
    assert len(path.losses) - 1 - int(np.argmin(path.losses)) == linear.PATIENCE
    assert len(steps) == len(path.losses) + 1


def test_the_same_call_gives_the_same_bytes():
    x, targets = data(50, 20, 3)
    first, second = (linear.fit([x], targets, 3, np.arange(50) % 5) for _ in range(2))
    assert torch.equal(first[0].weight, second[0].weight) and torch.equal(first[0].bias, second[0].bias)
    assert first[1] == second[1]


# ---- inner folds


def table(images: int, groups=None) -> pd.DataFrame:
    columns = {"sha256": [f"digest{i}" for i in range(images)]}
    return pd.DataFrame(columns | ({"group": groups} if groups is not None else {}))


def test_the_jobs_own_folds_are_the_inner_ones_where_there_are_three_or_more():
    fold = np.array([0, 2, 3, 7, -1, 2, 3, 0])
    assert linear.inner_folds(fold, table(8), np.zeros(8, int), 0).tolist() == [0, 1, 2, 3, -1, 1, 2, 0]
    many = linear.inner_folds(np.arange(40) % 20, table(40), np.zeros(40, int), 0)
    assert set(many) == set(range(linear.INNER_FOLDS)) and (np.bincount(many) == 8).all()


def test_else_the_rows_are_dealt_by_class_and_a_table_in_order_is_shuffled():
    targets = np.repeat([0, 1], 50)
    inner = linear.inner_folds(np.full(100, -1), table(100), targets, 3)
    for label in (0, 1):
        assert np.bincount(inner[targets == label]).tolist() == [10] * 5
    assert (np.diff(inner) != 0).sum() > 40  # contiguous folds change four times
    assert inner.tolist() == linear.inner_folds(np.full(100, -1), table(100), targets, 3).tolist()


@pytest.mark.parametrize("multi", [False, True])
def test_a_group_never_straddles_the_inner_folds(multi):
    groups = np.array([f"patient {i // 4}" for i in range(80)])
    targets = np.eye(2, dtype=np.float32)[np.arange(80) % 2] if multi else np.arange(80) % 2
    inner = linear.inner_folds(np.full(80, -1), table(80, groups), targets, 0)
    assert all(len(set(inner[groups == name])) == 1 for name in groups) and len(set(inner)) == 5


def test_images_of_the_same_bytes_share_an_inner_fold_and_too_few_give_none():
    twice = pd.concat([table(20), table(20)])
    inner = linear.inner_folds(np.full(40, -1), twice, np.arange(40) % 2, 0)
    assert (inner[:20] == inner[20:]).all()
    assert linear.inner_folds(np.array([-1]), table(1), np.array([0]), 0).tolist() == [-1]
