"""What a network answers, in eval mode: on training images, and on those held back."""

import numpy as np
import pytest
import torch
from test_training import CPU, STAGE, head, targets, vectors
from torch import nn

from eightfold.train import answers
from eightfold.train.answers import compute_logits, measure_held_back_loss, measure_training_losses
from eightfold.train.distributed import Ranks
from eightfold.train.setting import How, Setting


class Source:
    """`vectors`, of which some views are there."""

    def __init__(self, *views):
        self.views, self.asked = views, []

    def holds(self, rows, view):
        return view in self.views

    def __call__(self, rows, view):
        self.asked.append((rows.tolist(), view))
        return vectors(rows, view)


@pytest.mark.parametrize("several", [False, True])
def test_the_training_loss_is_measured_as_the_validation_loss_is(several):
    """Without dropout, by the running figures of BatchNorm, on the plain view; and it leaves the network as it was."""
    net, rows = head(classes=3), np.arange(3, 21)
    y = np.arange(30) % 3
    y = np.eye(3, dtype=np.float32)[y] if several else y
    before = {name: value.clone() for name, value in net.state_dict().items()}
    losses, view = measure_training_losses(
        Setting(net.train(), Source(0, 1), y, rows), STAGE | {"train": "head"}, How(8, 5, CPU)
    )
    with torch.no_grad():
        logits = net.eval()(vectors(rows, 0))
    of_torch = nn.functional.binary_cross_entropy_with_logits if several else nn.functional.cross_entropy
    expected = of_torch(logits, torch.tensor(y[rows]), reduction="none").numpy()
    assert view == 0
    np.testing.assert_allclose(losses, expected.mean(1) if several else expected, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_where_the_plain_view_is_not_cached_the_first_view_replaces_it():
    source = Source(3)
    stage = STAGE | {"first_view": 3, "train": "head"}
    _, view = measure_training_losses(Setting(head(), source, targets(), np.arange(9)), stage, How(8, 5, CPU))
    assert view == 3 and {asked for _, asked in source.asked} == {3}


def test_a_stage_of_all_layers_evaluates_a_sample_that_stages_share(monkeypatch):
    monkeypatch.setattr(answers, "MOST_EVALUATED", 10)
    rows, seen = np.arange(3, 30), []
    for name, kind in (("one", "all"), ("other", "all"), ("third", "head")):
        source = Source(0)
        stage = STAGE | {"name": name, "train": kind}
        losses, _ = measure_training_losses(Setting(head(), source, targets(), rows), stage, How(8, 5, CPU))
        seen.append([row for asked, _ in source.asked for row in asked])
        assert len(losses) == len(seen[-1])
    assert seen[0] == seen[1] and len(set(seen[0])) == 10 and set(seen[0]) <= set(rows.tolist())
    assert seen[2] == rows.tolist()


@pytest.mark.parametrize(("views", "shown"), [((0, 3), 0), ((3,), 3)])
def test_the_loss_on_images_held_back_is_the_mean_over_them(views, shown):
    net, source, held = head(), Source(*views), np.array([3, 8, 21])
    setting = Setting(net, source, targets(), np.arange(9), held_back=held)
    loss = measure_held_back_loss(setting, STAGE | {"first_view": 3}, CPU, Ranks())
    with torch.no_grad():
        expected = nn.functional.cross_entropy(net.eval()(vectors(held, shown)), torch.from_numpy(targets()[held]))
    assert loss == pytest.approx(expected.item(), rel=1e-5) and source.asked == [(held.tolist(), shown)]


def test_logits_are_those_of_eval_mode():
    net, rows = head().train(), np.arange(5)
    found = compute_logits(net, vectors, rows, 0, CPU)
    assert found.dtype == np.float32 and not net.training
    with torch.no_grad():
        np.testing.assert_allclose(found, net(vectors(rows, 0)).numpy(), rtol=1e-5, atol=1e-6)
