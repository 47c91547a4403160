"""What of a network is in training mode."""

import pytest
import torch
from torch import nn

from eightfold.net import heads, nets, trunks


def modes(net):
    return {name: module.training for name, module in net.named_modules() if not list(module.children())}


@pytest.mark.parametrize("bn_freeze", [False, True])
def test_what_is_frozen_is_in_eval_mode(bn_freeze):
    net = nets.Net(trunks.trunk_of("resnet18"), heads.head(1024, 2, 0))
    bn = {name for name, module in net.trunk.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(nets.rate_groups(net, {})) == 3 and len(nets.rate_groups(net.head, {})) == 1
    nets.set_training(net, bn_freeze)
    for name, training in modes(net).items():
        assert training == (name.startswith("head") or not (bn_freeze and name.removeprefix("trunk.") in bn)), name
    for parameter in net.trunk.parameters():
        parameter.requires_grad = False
    nets.set_training(net, bn_freeze)
    assert all(training == name.startswith("head") for name, training in modes(net).items())
    x = torch.randn(2, 3, 64, 64)
    before = {name: value.clone() for name, value in net.trunk.state_dict().items()}
    assert torch.equal(net.trunk(x), net.trunk(x))
    assert all(torch.equal(value, before[name]) for name, value in net.trunk.state_dict().items())


def test_every_batchnorm_of_torchs_networks_is_known_by_its_public_class():
    made = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2)]
    assert all(isinstance(layer, nets.BATCH_NORMS) for layer in made)
    others = [nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2, track_running_stats=True)]
    assert not any(isinstance(layer, nets.BATCH_NORMS) for layer in others)
