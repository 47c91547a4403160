"""A whole network, trunk and head: which of its parameters share a learning rate, and what of it is in training mode."""

from collections.abc import Mapping

import torch
from torch import nn

from eightfold.net.trunks import TimmTrunk, Trunk

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)  # timm's kinds are subclasses


class Net(nn.Module):
    """Trunk and head. Its three layer groups learn at different rates: ``trunk.early``, ``trunk.late``, ``head``."""

    def __init__(self, trunk: Trunk, head: nn.Module):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


def groups(net: nn.Module) -> list[nn.Module]:
    """The layer groups of a network, first to last: three for a Net, the head alone for a head."""
    return [net.trunk.early, net.trunk.late, net.head] if isinstance(net, Net) else [net]


def rate_groups(net: nn.Module, stage: Mapping) -> list[list[nn.Parameter]]:
    """The parameters of a network that share a rate, first to last: those of its layer groups, or, where the stage has a
    ``layer_decay``, of each of its blocks, and of its head."""
    if stage.get("layer_decay") and isinstance(net, Net):
        parts = [*_blocks(net.trunk), list(net.head.parameters())]
    else:
        parts = [list(group.parameters()) for group in groups(net)]
    return [[parameter for parameter in part if parameter.requires_grad] for part in parts]


def _blocks(trunk: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a trunk's blocks in order of depth: its children, where those that are sequences are opened.

    What has no children of its own, such as a norm after a convolution, belongs to the block before it.
    """
    model = trunk.model if isinstance(trunk, TimmTrunk) else trunk
    own = list(model.parameters(recurse=False))  # such as a position embedding
    found = [own] if own else []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
                walk(child)
            elif parameters := list(child.parameters()):
                single = not list(child.children())
                if single and found:
                    found[-1].extend(parameters)
                else:
                    found.append(parameters)

    walk(model)
    return found


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
