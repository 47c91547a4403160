"""Prediction: views and members averaged into probabilities."""

import numpy as np
import pytest
import torch
from torch import nn

from eightfold import activations, inference, nets, prediction, shards
from eightfold.devices import Device

CPU = Device(torch.device("cpu"), torch.float32)


def logits(seed=0, views=3, n=6, classes=4):
    return np.random.default_rng(seed).normal(0, 3, (views, n, classes))


@pytest.mark.parametrize("views", [0, 1, 4, 9])
def test_weights_of_views(views):
    equal = prediction.view_weights(views, "equal")
    assert equal == pytest.approx([1 / (1 + views)] * (1 + views))
    quarter = prediction.view_weights(views, "plain_quarter")
    assert quarter.sum() == pytest.approx(1)
    if views:
        assert quarter == pytest.approx([0.25, *[0.75 / views] * views])


@pytest.mark.parametrize("weights", ["equal", "plain_quarter"])
def test_arithmetic_and_geometric_means_by_hand(weights):
    z, w = logits(), prediction.view_weights(2, weights)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    expected = sum(weight * of_view for weight, of_view in zip(w, p, strict=True))
    np.testing.assert_allclose(prediction.combine(z, True, "arithmetic", weights), expected)
    expected = np.prod([of_view**weight for weight, of_view in zip(w, p, strict=True)], axis=0)
    expected /= expected.sum(-1, keepdims=True)
    found = prediction.combine(z, True, "geometric", weights)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found.sum(-1), 1)


def test_several_labels_are_averaged_each_for_itself():
    z = logits()
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(prediction.combine(z, False, "arithmetic", "equal"), p.mean(0))
    # Geometric: the mean of the log odds, which is what a label and its absence scaled to 1 come to.
    expected = 1 / (1 + np.exp(-z.mean(0)))
    np.testing.assert_allclose(prediction.combine(z, False, "geometric", "equal"), expected)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
@pytest.mark.parametrize("single", [True, False])
def test_extreme_logits_stay_probabilities(average, single):
    z = np.array([[[900.0, -900.0, 0.0]], [[-900.0, 900.0, 0.0]]])
    found = prediction.combine(z, single, average, "equal")
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    if single:
        assert found.sum() == pytest.approx(1)


def test_views_come_in_order_and_batches_do_not_matter(monkeypatch):
    net, seen = nn.Linear(5, 3), []

    def source(rows, view):
        seen.append(view)
        assert not torch.is_grad_enabled()
        return torch.stack([torch.full((5, 1, 1), float(row + 100 * view)) for row in rows]).clone()

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(net)

        def forward(self, x):
            assert not self.training
            return self.head(x.flatten(1))

    rows = np.array([7, 3, 9, 1])
    whole = prediction.logits_of_views(Flat().train(), source, rows, 2, CPU)
    assert whole.shape == (3, 4, 3) and whole.dtype == torch.float32 and sorted(set(seen)) == [0, 1, 2]
    for view in range(3):
        expected = net(torch.tensor(rows + 100.0 * view, dtype=torch.float32)[:, None].expand(4, 5))
        torch.testing.assert_close(whole[view], expected)
    monkeypatch.setattr(inference, "BATCH", 3)
    torch.testing.assert_close(prediction.logits_of_views(Flat(), source, rows, 2, CPU), whole)


def images(rows, view):
    make = torch.Generator()
    return torch.stack([torch.randn(3, 32, 32, generator=make.manual_seed(int(row) * 10 + view)) for row in rows])


def test_heads_on_one_trunk_say_what_each_whole_network_says():
    trunk, _, _ = nets.pretrained("shufflenet_v2_x0_5", "none", 2)
    heads, rows = [nets.head(trunk.features, 3, seed) for seed in (1, 2)], np.arange(5, 5 + 2 * shards.BATCH + 7)
    found = prediction.logits_of_heads(trunk, heads, images, rows, 1, CPU)
    assert found.shape == (2, 2, len(rows), 3)
    for head, of_head in zip(heads, found, strict=True):
        expected = prediction.logits_of_views(nets.Net(trunk, head), images, rows, 1, CPU)
        torch.testing.assert_close(of_head, expected, rtol=1e-4, atol=1e-5)


def test_activations_are_computed_batch_by_batch_when_they_are_written(tmp_path):
    trunk, _, _ = nets.pretrained("shufflenet_v2_x0_5", "none", 2)
    asked, rows = [], np.arange(2 * shards.BATCH + 7)

    def source(some, view):
        asked.append((view, len(some)))
        return images(some, view)

    computed = activations.compute(trunk, source, rows, [0, 3], CPU)
    assert asked == []
    assert next(iter(computed[3].pieces)).shape == (shards.BATCH, 2 * trunk.features)
    assert asked == [(3, shards.BATCH)]
    activations.write(tmp_path / "a", rows, activations.compute(trunk, images, rows, [0, 3], CPU), "me")
    held, found = activations.read(tmp_path / "a", "me")
    assert held.tolist() == rows.tolist()
    for view in (0, 3):
        whole = inference.outputs(trunk, images, rows, view, CPU)
        assert torch.equal(found[view], whole) and len(whole) == len(rows)


def test_class_prior():
    np.testing.assert_allclose(prediction.class_prior(np.array([0, 2, 2, 2]), 4), [0.25, 0, 0.75, 0])
    np.testing.assert_allclose(prediction.class_prior(np.array([[1, 0], [1, 1]]), 2), [1, 0.5])
