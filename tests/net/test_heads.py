"""The head of fastai 0.7 and the linear one: their weights, and that their logits are float32."""

import pytest
import torch
from torch import nn

from eightfold.net import folding, heads, trunks


def test_the_head_of_resnet34_has_528_898_parameters():
    head = heads.head(1024, 2, 0)
    assert sum(p.numel() for p in head.parameters()) == 528_898
    assert trunks.trunk_outline("resnet34").width == 1024
    kinds = [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, heads.Float32Linear]
    assert [type(layer) for layer in head] == kinds
    assert [head[1].p, head[5].p] == [0.25, 0.5]


def test_the_heads_weights_are_kaiming_normal_of_its_seed_alone():
    torch.manual_seed(5)  # the global numbers, which have gone on when the second head is made
    head, again, other = heads.head(1024, 10, 3), heads.head(1024, 10, 3), heads.head(1024, 10, 4)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(head[2].weight, other[2].weight)
    for layer, inputs in ((head[2], 1024), (head[6], 512)):
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.005 and not layer.bias.any()


def test_logits_are_float32_under_autocast_in_training_and_in_inference():
    """The last layer's sums are those of float32; all before it is as fast as the device likes."""
    net = heads.head(12, 3, 0).eval()
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        hidden, logits = net[:-1](x), net(x)
        folded = folding.folded(net)(x)
    assert logits.dtype == torch.float32 and folded.dtype == torch.float32
    assert torch.equal(logits, torch.nn.functional.linear(hidden.float(), net[-1].weight, net[-1].bias))
    assert net[2](net[:2](x)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert net.train()(x).dtype == torch.float32


def test_a_linear_head_computes_in_float32_under_autocast():
    head = heads.LinearHead(64, 3)
    x = torch.randn(5, 64) * 100
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = head(x)
    assert found.dtype == torch.float32 and torch.equal(found, torch.nn.functional.linear(x, head.weight, head.bias))
