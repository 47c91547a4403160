"""Classifiers of torchvision: found by name, and taken apart up to where their pools begin."""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn

from eightfold.core.files import UserError
from eightfold.core.without_compiler import without_compiler

_EARLY_STRIDE = 8  # the early group ends where the map is an eighth of the image: after layer2 of a resnet, as in 0.7
_NOT_TRUNK = {"avgpool", "fc", "classifier", "head", "heads", "dropout", "aux1", "aux2", "AuxLogits"}


def torchvision_models():
    """The module `torchvision.models`, imported where a network is asked for: stages of a head alone never need it."""
    with without_compiler():
        import torchvision.models

    return torchvision.models


def architectures() -> list[str]:
    """The names of torchvision's classifiers."""
    models = torchvision_models()
    return models.list_models(module=models)


def classifier(arch: str) -> nn.Module:
    """An untrained torchvision classifier of ImageNet's thousand classes. Raises UserError for an unknown name."""
    if arch not in architectures():
        raise UserError(f"model.arch: torchvision has no classifier {arch!r}; it has {', '.join(architectures())}")
    extra = {"init_weights": True, "aux_logits": False} if arch in ("googlenet", "inception_v3") else {}
    return torchvision_models().get_model(arch, weights=None, **extra)


def outline(arch: str) -> nn.Module:
    """A classifier without memory behind its tensors: it has shapes, and nothing is drawn and thrown away."""
    try:
        with without_compiler(), torch.device("meta"):
            return classifier(arch).eval()
    except NotImplementedError:  # regnet computes its widths with tensors, which need memory
        with torch.random.fork_rng(devices=[]):
            return classifier(arch).eval().to("meta")


def _flat(children: Iterable[tuple[str, nn.Module]]) -> OrderedDict[str, nn.Module]:
    """Children in the order of the forward pass; a list of modules, which cannot be called, is opened."""
    flat = OrderedDict()
    for name, child in children:
        if isinstance(child, nn.ModuleList):
            flat.update((f"{name}_{i}", block) for i, block in enumerate(child))
        else:
            flat[name] = child
    return flat


def trunk_children(model: nn.Module) -> OrderedDict[str, nn.Module]:
    """The modules of a classifier up to its pool, in order: calling them one after another gives its last map."""
    if hasattr(model, "features"):
        children = _flat(model.features.named_children())
        if "denseblock1" in children:
            children["relu"] = nn.ReLU(inplace=True)  # densenet's forward has it outside `features`
        if hasattr(model, "permute"):  # swin: (n, h, w, c) inside
            children["norm"], children["permute"] = model.norm, model.permute
        return children
    if hasattr(model, "trunk_output"):  # regnet
        return OrderedDict([("stem", model.stem), *model.trunk_output.named_children()])
    if isinstance(getattr(model, "layers", None), nn.Sequential):  # mnasnet
        return _flat(model.layers.named_children())
    return _flat((name, child) for name, child in model.named_children() if name not in _NOT_TRUNK)


def trunk_keys(model: nn.Module) -> list[str]:
    """The names, in the classifier's state dict, of the tensors that its trunk holds."""
    held = {
        id(tensor) for child in trunk_children(model).values() for tensor in child.state_dict(keep_vars=True).values()
    }
    return [name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in held]


def cut(arch: str, outlined: nn.Module | None = None) -> tuple[int, int]:
    """How many of the children form the early group, and the channels of the last map; found without memory or work."""
    children = trunk_children(outlined or outline(arch))
    size, early = 256, 0
    x = torch.empty(1, 3, size, size, device="meta")
    try:
        with without_compiler():
            for position, module in enumerate(children.values()):
                x = module(x)
                # shape[2] is a side of the map in (n, c, h, w) and, inside a swin, in (n, h, w, c).
                if x.dim() == 4 and x.shape[2] * _EARLY_STRIDE >= size:
                    early = position + 1
        if x.dim() != 4 or x.shape[2] != x.shape[3]:
            raise ValueError(f"its last map is {tuple(x.shape)}")
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"model.arch: {arch!r} has no convolutional trunk that ends in a square map ({error}); choose another, such as resnet34"
        ) from error
    return max(1, min(early, len(children) - 1)), x.shape[1]
