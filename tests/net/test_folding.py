"""A network with its BatchNorm merged into convolutions is the same function."""

import pytest
import torch
from torch import nn

from eightfold.net import folding, heads, nets, starting_weights


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "densenet121", "squeezenet1_1"])
def test_a_folded_network_is_the_same_function_with_fewer_layers(arch):
    trunk, _, _ = starting_weights.pretrained(arch, "none", seed=0)
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        for values in (norm.running_mean, norm.bias.data):
            values.uniform_(-0.2, 0.2)
        for values in (norm.running_var, norm.weight.data):
            values.uniform_(0.5, 1.5)
    trunk.eval()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        folded = folding.folded(trunk)
        left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        expected = trunk(images)
        torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    # densenet normalises what it has joined, which is not a convolution's output.
    assert left == (62 if arch == "densenet121" else 0)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_a_network_that_cannot_be_traced_is_not_folded():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(x)) if x.sum() > 0 else x

    net = Net().eval()
    assert folding.folded(net) is net


def test_a_network_with_a_float32_head_is_still_folded():
    trunk, _, _ = starting_weights.pretrained("shufflenet_v2_x0_5", "none", seed=2)
    net = nets.Net(trunk, heads.head(trunk.width, 2, 0)).eval()
    kinds = [type(module) for module in folding.folded(net).modules()]
    assert torch.nn.BatchNorm2d not in kinds and heads.Float32Linear in kinds
