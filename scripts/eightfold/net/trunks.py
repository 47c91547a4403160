"""The trunk: the convolutional part of a classifier of torchvision or timm, cut in two groups, with both of its pools."""

from collections import OrderedDict

import torch
from torch import nn

from eightfold.net import timm_nets, torchvision_nets


class Trunk(nn.Module):
    """The convolutional part of a classifier, with both of its pools: (n, 3, s, s) -> (n, 2 * features).

    The pooled vector is [max, average] of the last map, fastai's AdaptiveConcatPool2d; any image size works.
    """

    def __init__(self, early: nn.Module, late: nn.Module, features: int):
        super().__init__()
        self.early, self.late, self.features = early, late, features

    def last_map(self, x: torch.Tensor) -> torch.Tensor:
        return self.late(self.early(x))  # (n, features, s / 32, s / 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last_map(x)
        return torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)


class _Group:
    """Some of a network's parameters, where no module of its own holds them."""

    def __init__(self, model: nn.Module, names: set[str]):
        self.model, self.names = model, names

    def parameters(self) -> list[nn.Parameter]:
        return timm_nets.parameters_of(self.model, self.names)


class TimmTrunk(Trunk):
    """A network of timm as a trunk: run whole, since timm's networks are not chains of their children."""

    def __init__(self, model: nn.Module, features: int):
        nn.Module.__init__(self)
        self.model, self.features = model, features
        self._early = timm_nets.early_names(model)

    @property
    def early(self) -> _Group:
        return _Group(self.model, self._early)

    @property
    def late(self) -> _Group:
        return _Group(self.model, {name for name, _ in self.model.named_parameters()} - self._early)

    def last_map(self, x: torch.Tensor) -> torch.Tensor:
        return timm_nets.last_map(self.model, x)


def trunk_of(arch: str, model: nn.Module | None = None) -> Trunk:
    """The trunk of a classifier: of ``model`` where given, else of a new one with random weights.

    Raises UserError for an architecture that torchvision, or timm, lacks, and for one without a convolutional trunk (vit).
    """
    if timm_nets.is_timm(arch):
        features = timm_nets.features(arch)
        return TimmTrunk(model if model is not None else timm_nets.create(arch), features)
    early, features = torchvision_nets.cut(arch)
    classifier = model if model is not None else torchvision_nets.classifier(arch)
    children = list(torchvision_nets.trunk_children(classifier).items())
    return Trunk(nn.Sequential(OrderedDict(children[:early])), nn.Sequential(OrderedDict(children[early:])), features)


def trunk_outline(arch: str) -> Trunk:
    """A trunk whose parameters wait to be loaded: nothing is drawn and thrown away."""
    if timm_nets.is_timm(arch):
        return TimmTrunk(timm_nets.outline(arch), timm_nets.features(arch))
    outline = torchvision_nets.outline(arch)
    early, features = torchvision_nets.cut(arch, outline)
    children = list(torchvision_nets.trunk_children(outline).items())
    return Trunk(nn.Sequential(OrderedDict(children[:early])), nn.Sequential(OrderedDict(children[early:])), features)
