"""Classifiers of torchvision: found by name, and taken apart: the chain up to the pool, and what stands between it and the logits."""

import math
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


def is_vit(model: nn.Module) -> bool:
    """Whether a classifier's features are tokens, and not maps."""
    return hasattr(model, "conv_proj")


class VitTokens(nn.Module):
    """The tokens that a vit of torchvision starts with, from images of any multiple of its patches: (n, 3, s, s) -> (n, t, c).

    The published position embedding is interpolated to other sizes than its own, as torchvision's interpolate_embeddings does.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.conv_proj, self.patch = model.conv_proj, model.patch_size
        self.class_token, self.pos_embedding = model.class_token, model.encoder.pos_embedding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % self.patch or x.shape[3] % self.patch:
            raise ValueError(f"images of {x.shape[2]} px are not a multiple of patches of {self.patch}")
        patches = self.conv_proj(x)
        embedding = _resized(self.pos_embedding, patches.shape[2])
        patches = patches.flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches], 1) + embedding


def _resized(embedding: torch.Tensor, side: int) -> torch.Tensor:
    """A position embedding (1, 1 + a * a, c), whose first is the class token's, for side * side patches."""
    own = math.isqrt(embedding.shape[1] - 1)
    if own == side:
        return embedding
    maps = embedding[:, 1:].transpose(1, 2).unflatten(2, (own, own))
    maps = nn.functional.interpolate(maps, size=(side, side), mode="bicubic", align_corners=True)
    return torch.cat([embedding[:, :1], maps.flatten(2).transpose(1, 2)], 1)


def trunk_children(model: nn.Module) -> OrderedDict[str, nn.Module]:
    """The modules of a classifier up to its pool, in order: calling them one after another gives its last map, or tokens."""
    if is_vit(model):
        blocks = _flat([("layers", nn.ModuleList(model.encoder.layers))])
        return OrderedDict([("tokens", VitTokens(model)), *blocks.items(), ("ln", model.encoder.ln)])
    if isinstance(getattr(model, "blocks", None), nn.ModuleList):  # maxvit
        return OrderedDict([("stem", model.stem), *_flat([("blocks", model.blocks)]).items()])
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


def in_order(children: OrderedDict[str, nn.Module], first: int, last: int) -> nn.Sequential:
    """The chain of the children from the first to before the last."""
    return nn.Sequential(OrderedDict(list(children.items())[first:last]))


def pre_logits(model: nn.Module) -> nn.Sequential:
    """What a classifier does to its pooled maps (n, c, 1, 1) before its last layer: (n, width).

    A norm (convnext, maxvit) and a layer (mobilenet_v3, maxvit) are kept. The two layers of alexnet and vgg are left out, as
    in 0.7: they see a grid of seven by seven places, which two pools do not give. Dropout is the head's.
    """
    classifier, pool = getattr(model, "classifier", None), getattr(model, "avgpool", None)
    kept = list(classifier)[:-1] if isinstance(classifier, nn.Sequential) else []
    kept = [module for module in kept if not isinstance(module, (nn.AdaptiveAvgPool2d, nn.Dropout))]
    if getattr(pool, "output_size", 1) not in (1, (1, 1)) or any(isinstance(module, nn.Conv2d) for module in kept):
        kept = []  # squeezenet's last layer is a convolution
    if not any(isinstance(module, nn.Flatten) for module in kept):
        kept = [nn.Flatten(), *kept]
    return nn.Sequential(*kept)


def trunk_keys(model: nn.Module) -> list[str]:
    """The names, in the classifier's state dict, of the tensors that its trunk holds."""
    parts = [*trunk_children(model).values(), pre_logits(model)]
    held = {id(tensor) for part in parts for tensor in part.state_dict(keep_vars=True).values()}
    return [name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in held]


def cut(arch: str, outlined: nn.Module | None = None) -> tuple[int, int]:
    """How many of the children form the early group, and the width of the pooled vector; found without memory or work.

    The early group of a network of maps ends where they are an eighth of the image, that of a vit with a third of its depth.
    """
    model = outlined or outline(arch)
    children = trunk_children(model)
    size, early = getattr(model, "image_size", 224), 0
    x = torch.empty(1, 3, size, size, device="meta")
    with without_compiler():
        for position, module in enumerate(children.values()):
            x = module(x)
            # shape[2] is a side of the map in (n, c, h, w) and, inside a swin, in (n, h, w, c).
            if x.dim() == 4 and x.shape[2] * _EARLY_STRIDE >= size:
                early = position + 1
    if x.dim() == 3:
        return len(children) // 3, 2 * x.shape[2]
    last = next((module for module in reversed(pre_logits(model)) if isinstance(module, nn.Linear)), None)
    return max(1, min(early, len(children) - 1)), 2 * (last.out_features if last else x.shape[1])
