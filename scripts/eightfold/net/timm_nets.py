"""Networks of timm, an optional package: `model.arch: timm/<name>`. Imported where such a name is used, and only there."""

import difflib
import importlib
import math
from typing import NamedTuple

import torch
from torch import nn

from eightfold.core.files import UserError

PREFIX = "timm/"
_EARLY_STRIDE = 8  # as torchvision_nets.py cuts torchvision's
_HUB = "hf-hub:"


class Form(NamedTuple):
    """What a network's features are like."""

    layout: str  # NCHW, NHWC or tokens
    prefix: int  # tokens before those of the patches: a class token, registers
    width: int  # of the pooled vector


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
    """timm's network of a name (`timm/resnet10t`, `timm/resnet10t.c3_in1k`, `timm/hf-hub:<owner>/<name>`) without its
    classifier, in eval mode. One that can see images of another size than its own does.

    Its random weights are drawn from torch's global numbers. Raises UserError for a name that timm lacks, and for weights
    that cannot be had.
    """
    timm, name = _timm(), arch.removeprefix(PREFIX)
    if not (name.startswith(_HUB) or timm.is_model(name)):
        known = timm.list_models()
        near = ", ".join(difflib.get_close_matches(name, known, 5, 0.5) or known[:5])
        raise UserError(f"model.arch: timm has no network {name!r}; it has {near} and others: timm.list_models()")
    try:
        try:
            # Position embeddings follow the size of the images; most networks have none, and do not know the word.
            model = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
        except TypeError:
            model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # what the hub's client raises is of many kinds; the cause is kept
        if not pretrained and not name.startswith(_HUB):
            raise UserError(f"model.arch: timm cannot make {name!r} ({error})") from error
        raise UserError(
            f"model.weights: timm's weights of {name!r} could not be had ({error}). Without a network, download their file "
            "(model.safetensors of its page on the hub) elsewhere and give its path"
        ) from error
    return model.eval()


def outline(arch: str) -> nn.Module:
    """The network without memory behind its tensors, unless it keeps some that no checkpoint holds."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = create(arch)
    held = set(model.state_dict())
    if any(name not in held for name, _ in model.named_buffers()):
        with torch.random.fork_rng(devices=[]):
            return create(arch)
    return model


def expected(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the network's published weights expect images to be normalised with."""
    return tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])


def native_size(arch: str) -> int:
    """Side (px) of the images that a network was made for."""
    return outline(arch).pretrained_cfg["input_size"][-1] if is_timm(arch) else 224


# ---- from features to the pooled vector


def form_of(arch: str) -> Form:
    """The form of a network's features, found at its own size by shapes alone.

    Raises UserError for one whose features are neither maps nor tokens.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.inference_mode():
        model = create(arch)
        size = model.pretrained_cfg["input_size"][-1]
        try:
            last = model.forward_features(torch.empty(1, 3, size, size))
            if not isinstance(last, torch.Tensor) or last.dim() not in (3, 4):
                raise ValueError("it gives neither maps nor tokens")
            form = Form(_layout(model, last), _prefix(model, last), 0)
            return form._replace(width=pool(model, last, form).shape[1])
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
            raise UserError(
                f"model.arch: the features of {arch!r} cannot be pooled into one vector ({error}); choose another network, "
                "such as timm/resnet34"
            ) from error


def _layout(model: nn.Module, last: torch.Tensor) -> str:
    if last.dim() == 3:
        return "tokens"
    return "NHWC" if str(getattr(model, "output_fmt", "")).endswith("NHWC") else "NCHW"


def _prefix(model: nn.Module, last: torch.Tensor) -> int:
    """Tokens before those of the patches, as the network says, or else so many that the others form a square."""
    if last.dim() == 4:
        return 0
    said = getattr(model, "num_prefix_tokens", None)
    return last.shape[1] - math.isqrt(last.shape[1]) ** 2 if said is None else said


def pool(model: nn.Module, last: torch.Tensor, form: Form) -> torch.Tensor:
    """The pooled vector (n, width) of a network's features: as `Trunk` says, by the network's own way to its last layer."""
    published = model.forward_head(last, pre_logits=True)
    attends = _pool_name(model) in ("token", "map")
    if form.layout != "tokens":
        if attends:  # an attention that pools has no other pool beside it
            return published
        largest = last.amax((1, 2) if form.layout == "NHWC" else (2, 3), keepdim=True)
        return torch.cat([model.forward_head(largest, pre_logits=True), published], 1)
    if last.shape[1] - form.prefix < 2:
        return published
    if attends:
        return torch.cat([last[:, form.prefix :].mean(1), published], 1)
    if getattr(model, "cls_token", None) is None:
        return published
    norm = getattr(model, "fc_norm", None)  # of what is pooled, where the tokens have not been through one
    first = last[:, 0] if norm is None else norm(last[:, 0])
    return torch.cat([first, published], 1)


def _pool_name(model: nn.Module) -> str:
    """How a network pools for its classifier: avg, token (the class token) or map (attention), among others."""
    name = getattr(model, "global_pool", "")
    return name if isinstance(name, str) else ""


# ---- layer groups


def early_names(model: nn.Module) -> set[str]:
    """Names of the parameters of the early layer group.

    Up to where the map is an eighth of the image, as the network itself numbers its stages; the first third of the blocks of
    a network whose map never shrinks so.
    """
    stages = getattr(model, "feature_info", [])
    stages = getattr(stages, "info", stages)
    last = [stage["module"] for stage in stages if stage["reduction"] <= _EARLY_STRIDE]
    names = [name for name, _ in model.named_parameters()]
    ends = [place for place, name in enumerate(names) if last and _below(name, last[-1])]
    if ends and ends[-1] + 1 < len(names):
        return set(names[: ends[-1] + 1])
    by_depth = _names_by_depth(model)
    if len(by_depth) > 2:
        return {name for block in by_depth[: max(1, len(by_depth) // 3)] for name in block}
    return set(names[: max(1, len(names) // 3)])


def _below(name: str, module: str) -> bool:
    return name.startswith(module + ".")


def _names_by_depth(model: nn.Module) -> list[list[str]]:
    """Names of the parameters block by block, as the network itself groups them; [] where it does not."""
    if not hasattr(model, "group_matcher"):
        return []
    found = importlib.import_module("timm.models").group_parameters(model, model.group_matcher(coarse=False))
    return [found[depth] for depth in sorted(found)]


def blocks(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters block by block in order of depth; [] where the network does not say."""
    held = dict(model.named_parameters())
    return [[held[name] for name in names] for names in _names_by_depth(model)]
