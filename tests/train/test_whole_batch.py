"""A process's part of a batch is computed as in the whole batch: dropout's numbers, BatchNorm's statistics.

Here without processes; `test_distributed` trains with several.
"""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchvision.ops import StochasticDepth

from eightfold.core.files import UserError
from eightfold.train.distributed import Ranks
from eightfold.train.whole_batch import refuse_layers_of_a_part, whole_batch

CALLED = (
    "torch or torchvision computes this layer by other functions now: see module scripts/eightfold/train/whole_batch.py"
)


@pytest.mark.parametrize("processes", [2, 3, 9])
@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.3), nn.Dropout(0.5, inplace=True), nn.Dropout(0.0), StochasticDepth(0.4, "row")], ids=str
)
def test_dropouts_parts_put_together_are_that_of_the_whole_batch(layer, processes):
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    expected, after, found = layer(x.clone()), torch.rand(1), []
    for rank in range(processes):
        ranks = Ranks(rank, processes)
        torch.manual_seed(3)
        with whole_batch(ranks, len(x)):
            found.append(layer(x[ranks.part(len(x))].clone()))
        assert torch.equal(torch.rand(1), after), CALLED  # the next layer's numbers are those of the whole batch too
    assert torch.equal(torch.cat(found), expected), CALLED


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_batchnorms_statistics_and_gradients_are_of_the_whole_batch(layer, monkeypatch):
    """Two processes with the same rows, so that a sum over both is twice that of one."""
    monkeypatch.setattr(dist, "all_reduce", lambda x: x.mul_(2))
    ours, theirs = layer(3).double(), layer(3).double()
    shape = (6, 3) if layer is nn.BatchNorm1d else (6, 3, 4, 4)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    twice = torch.cat([x.detach(), x.detach()]).requires_grad_()
    with whole_batch(Ranks(0, 2), 12):
        found = ours(x)
        found.pow(3).sum().backward()
    expected = theirs(twice)
    expected.pow(3).sum().backward()
    torch.testing.assert_close(found, expected[:6], msg=CALLED)
    torch.testing.assert_close(x.grad, twice.grad[:6], msg=CALLED)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=f"{name}: {CALLED}")
    assert ours.num_batches_tracked == 1 and not torch.equal(ours.running_mean, torch.zeros(3))


def test_layers_in_eval_mode_and_outside_of_a_step_are_as_ever(monkeypatch):
    monkeypatch.delattr(dist, "all_reduce")
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    norm, dropout = nn.BatchNorm1d(3), nn.Dropout(0.5)
    norm(x)
    expected = norm.eval()(x)
    with whole_batch(Ranks(1, 2), 8):
        assert torch.equal(norm(x), expected) and torch.equal(dropout.eval()(x), x)
    with whole_batch(Ranks(), 4):
        norm.train()(x)


def test_a_layer_that_would_see_a_part_of_the_batch_is_refused():
    class BatchNormAct2d(nn.BatchNorm2d):
        """timm's kind."""

    refuse_layers_of_a_part(BatchNormAct2d(3), Ranks())
    refuse_layers_of_a_part(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), StochasticDepth(0.1, "row")), Ranks(0, 2))
    for layer in (BatchNormAct2d(3), nn.BatchNorm3d(3), nn.Dropout2d(), StochasticDepth(0.1, "batch")):
        with pytest.raises(UserError, match=f"{type(layer).__name__} of this network cannot be divided"):
            refuse_layers_of_a_part(nn.Sequential(layer), Ranks(0, 2))
