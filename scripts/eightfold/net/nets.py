"""A whole network, trunk and head: which of its parameters share a learning rate, and what of it is in training mode."""

from collections.abc import Mapping

import torch
from torch import nn

from eightfold.net.trunks import Trunk

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)  # timm's kinds are subclasses


class Net(nn.Module):
    """Trunk and head. Its three layer groups learn at different rates: the trunk's early and late one, and the head."""

    def __init__(self, trunk: Trunk, head: nn.Module):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


def rate_groups(net: nn.Module, stage: Mapping) -> list[list[nn.Parameter]]:
    """The parameters of a network that share a rate, first to last: those of the trunk's two layer groups, or, where the
    stage has a ``layer_decay``, of each of its blocks, and of the head. What is frozen is in none."""
    parts = [list((net.head if isinstance(net, Net) else net).parameters())]
    if isinstance(net, Net):
        parts = [*(net.trunk.blocks() if stage.get("layer_decay") else net.trunk.groups()), *parts]
    return [[parameter for parameter in part if parameter.requires_grad] for part in parts]


def set_training(net: nn.Module, bn_freeze: bool = False) -> None:
    """Put what learns in training mode and what is frozen in eval mode.

    A trunk whose parameters are frozen is in eval mode whole, BatchNorm included: it is then a pure function of the
    pixels, which is what makes cached activations exact. ``bn_freeze`` keeps all BatchNorm of a learning trunk in eval.
    """
    net.train()
    if isinstance(net, Net):
        learns = any(parameter.requires_grad for parameter in net.trunk.parameters())
        net.trunk.train(learns)
        if learns and bn_freeze:
            for module in net.trunk.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
