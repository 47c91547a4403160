"""Classifiers of timm, an optional package: `model.arch: timm/<name>`. Imported where such a name is used, and only there."""

import difflib
import importlib
from collections.abc import Iterable

import torch
from torch import nn

from eightfold.core.files import UserError

PREFIX = "timm/"
_EARLY_STRIDE = 8  # as torchvision_nets.py cuts torchvision's


def is_timm(arch: str) -> bool:
    return arch.startswith(PREFIX)


def _timm():
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(
            f"model.arch: {PREFIX}... needs the package timm ({error}): pip install -r envs/requirements-extra.txt"
        ) from None


def create(arch: str, pretrained: bool = False) -> nn.Module:
    """timm's network of a name (`timm/resnet10t`, `timm/resnet10t.c3_in1k`) without its classifier, in eval mode.

    Its random weights are drawn from torch's global numbers. Raises UserError for a name that timm lacks, and for weights
    that cannot be had.
    """
    timm, name = _timm(), arch.removeprefix(PREFIX)
    if not timm.is_model(name):
        known = timm.list_models()
        near = ", ".join(difflib.get_close_matches(name, known, 5, 0.5) or known[:5])
        raise UserError(f"model.arch: timm has no network {name!r}; it has {near} and others: timm.list_models()")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0).eval()
    except Exception as error:  # what the hub's client raises is of many kinds; the cause is kept
        if not pretrained:
            raise UserError(f"model.arch: timm cannot make {name!r} ({error})") from error
        raise UserError(
            f"model.weights: timm's weights of {name!r} could not be had ({error}). Without a network, download their file "
            "(model.safetensors of its page on the hub) elsewhere and give its path"
        ) from error


def outline(arch: str) -> nn.Module:
    """The network without memory behind its tensors, unless it keeps some that no checkpoint holds."""
    with torch.device("meta"):
        model = create(arch)
    held = set(model.state_dict())
    if any(name not in held for name, _ in model.named_buffers()):
        with torch.random.fork_rng(devices=[]):
            return create(arch)
    return model


def expected(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the network's published weights expect images to be normalised with."""
    return tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])


def features(arch: str) -> int:
    """Channels of the last map. Raises UserError for a network whose features are not a map, or of one size only (vit)."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = create(arch)
        try:
            for size in (192, 256):  # some take the one size that they were made for
                found = last_map(model, torch.empty(1, 3, size, size))
                if found.dim() != 4 or found.shape[2] != found.shape[3]:
                    raise ValueError(f"its features are of shape {tuple(found.shape)}")
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise UserError(
                f"model.arch: {arch!r} has no convolutional trunk that takes any size and ends in a square map ({error}); "
                "choose another, such as timm/resnet34"
            ) from error
    return found.shape[1]


def last_map(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The network's features before they are pooled, channels first."""
    found = model.forward_features(x)
    return found.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "") == "NHWC" else found


def early_names(model: nn.Module) -> set[str]:
    """Names of the parameters up to where the map is an eighth of the image, as the network itself numbers its stages."""
    stages = model.feature_info
    stages = getattr(stages, "info", stages)
    last = [stage["module"] for stage in stages if stage["reduction"] <= _EARLY_STRIDE]
    names = [name for name, _ in model.named_parameters()]
    ends = [place for place, name in enumerate(names) if last and _below(name, last[-1])]
    if not ends or ends[-1] + 1 >= len(names):
        return set(names[: max(1, len(names) // 3)])
    return set(names[: ends[-1] + 1])


def _below(name: str, module: str) -> bool:
    return name.startswith(module + ".")


def parameters_of(model: nn.Module, names: Iterable[str]) -> list[nn.Parameter]:
    """The parameters of those names, in the network's order."""
    wanted = set(names)
    return [parameter for name, parameter in model.named_parameters() if name in wanted]
