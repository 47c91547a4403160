"""The trunk: all of a classifier of torchvision or timm but its last layer, as a function from images to one pooled vector."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from eightfold.core.files import UserError
from eightfold.core.networks import TOGETHER
from eightfold.net import timm_nets, torchvision_nets

_NEAREST = 64  # px either way in which a size that fits is looked for


class Trunk(nn.Module):
    """Images (n, 3, s, s) to the pooled vector (n, width).

    It ends in what the published classifier gives to its last layer, with its final norm and its layer before the logits
    where it has them. Before that stand, for a network of maps, the same of the largest value in place of the mean of each
    channel (fastai's AdaptiveConcatPool2d), and for one of tokens the mean of the patches, or the class token where the
    published vector is that mean.
    """

    width: int  # of the pooled vector

    def lasts(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What `last` gives, of each network that there is."""
        return [self.last(x)]

    def pool_all(self, lasts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The pooled vector (n, width) of what `lasts` gives."""
        return self.pool(lasts[0])

    def maps_of_all(self, lasts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """`maps` of what `lasts` gives."""
        return [self.maps(lasts[0])]

    def last(self, x: torch.Tensor) -> torch.Tensor:
        """The last features before they are pooled: maps, channels first (n, c, h, w), or tokens (n, t, c)."""
        raise NotImplementedError

    def pool(self, last: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def maps(self, last: torch.Tensor) -> torch.Tensor:
        """What `last` gives as maps (n, c, h, w), patches in their places. Raises UserError where they form no square."""
        raise NotImplementedError

    def groups(self) -> list[list[nn.Parameter]]:
        """The parameters in two layer groups, early and late, which learn at different rates."""
        raise NotImplementedError

    def blocks(self) -> list[list[nn.Parameter]]:
        """The parameters block by block in order of depth, for a rate that decays with it."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool_all(self.lasts(x))


def _patches_as_maps(tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Tokens (n, prefix + h * h, c) as maps (n, c, h, h)."""
    patches = tokens[:, prefix:]
    side = math.isqrt(patches.shape[1])
    if not side or side * side != patches.shape[1]:
        raise UserError(f"this network's {patches.shape[1]} patches form no square map, so there is no Grad-CAM of it")
    return patches.transpose(1, 2).unflatten(2, (side, side))


class TorchvisionTrunk(Trunk):
    """A chain of a classifier's modules, cut in two, and what the classifier does to its pooled vector before its last layer."""

    def __init__(self, early: nn.Module, late: nn.Module, pre_logits: nn.Module, width: int, tokens: bool = False):
        """tokens: whether the chain ends in tokens, a class token first, and not in maps."""
        super().__init__()
        self.early, self.late, self.pre_logits, self.width, self.tokens = early, late, pre_logits, width, tokens

    def last(self, x: torch.Tensor) -> torch.Tensor:
        return self.late(self.early(x))

    def pool(self, last: torch.Tensor) -> torch.Tensor:
        if self.tokens:
            return torch.cat([last[:, 1:].mean(1), last[:, 0]], 1)
        pools = last.amax((2, 3), keepdim=True), last.mean((2, 3), keepdim=True)
        return torch.cat([self.pre_logits(pooled) for pooled in pools], 1)

    def maps(self, last: torch.Tensor) -> torch.Tensor:
        return _patches_as_maps(last, 1) if self.tokens else last

    def groups(self) -> list[list[nn.Parameter]]:
        return [list(self.early.parameters()), [*self.late.parameters(), *self.pre_logits.parameters()]]

    def blocks(self) -> list[list[nn.Parameter]]:
        return _blocks(self)


class TimmTrunk(Trunk):
    """A network of timm as a trunk: run whole, since timm's networks are not chains of their children."""

    def __init__(self, model: nn.Module, form: timm_nets.Form):
        super().__init__()
        self.model, self.form, self.width = model, form, form.width

    def last(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.forward_features(x)

    def pool(self, last: torch.Tensor) -> torch.Tensor:
        return timm_nets.pool(self.model, last, self.form)

    def maps(self, last: torch.Tensor) -> torch.Tensor:
        if self.form.layout == "tokens":
            return _patches_as_maps(last, self.form.prefix)
        return last.permute(0, 3, 1, 2) if self.form.layout == "NHWC" else last

    def groups(self) -> list[list[nn.Parameter]]:
        early = timm_nets.early_names(self.model)
        return [
            [value for name, value in self.model.named_parameters() if (name in early) == wanted]
            for wanted in (True, False)
        ]

    def blocks(self) -> list[list[nn.Parameter]]:
        return timm_nets.blocks(self.model) or _blocks(self.model)


class SeveralTrunks(Trunk):
    """Several networks as one: their pooled vectors one after another.

    Images come normalised as the first of them expects; the others get them as they expect by ``scale`` and ``shift``.
    """

    def __init__(self, trunks: Sequence[Trunk], mean_std: Sequence[tuple[Sequence[float], Sequence[float]]]):
        """mean_std: of a channel, which each network expects images to be normalised with."""
        super().__init__()
        self.trunks = nn.ModuleList(trunks)
        self.width = sum(trunk.width for trunk in trunks)
        means, stds = (torch.tensor([given[i] for given in mean_std], dtype=torch.float64) for i in (0, 1))
        self.register_buffer("scale", (stds[0] / stds).float())  # (networks, 3)
        self.register_buffer("shift", ((means[0] - means) / stds).float())

    def lasts(self, x: torch.Tensor) -> list[torch.Tensor]:
        scale, shift = self.scale[:, :, None, None], self.shift[:, :, None, None]
        return [trunk.last(x * scale[i] + shift[i]) for i, trunk in enumerate(self.trunks)]

    def pool_all(self, lasts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([trunk.pool(last) for trunk, last in zip(self.trunks, lasts, strict=True)], 1)

    def maps_of_all(self, lasts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [trunk.maps(last) for trunk, last in zip(self.trunks, lasts, strict=True)]

    def groups(self) -> list[list[nn.Parameter]]:
        both = [trunk.groups() for trunk in self.trunks]
        return [[value for groups in both for value in groups[i]] for i in (0, 1)]

    def blocks(self) -> list[list[nn.Parameter]]:
        """Block by block, counted from the last: what is as far from the head learns alike."""
        every = [trunk.blocks()[::-1] for trunk in self.trunks]
        alike = itertools.zip_longest(*every, fillvalue=[])
        return [[value for block in blocks for value in block] for blocks in alike][::-1]


def _blocks(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a network's blocks in order of depth: its children, where those that are sequences are opened.

    What has no children of its own, such as a norm after a convolution, belongs to the block before it.
    """
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


def trunk_of(arch: str, model: nn.Module | None = None) -> Trunk:
    """The trunk of a classifier: of ``model`` where given, else of a new one with random weights.

    Raises UserError for an architecture that torchvision, or timm, lacks, and for one whose features cannot be pooled.
    """
    if TOGETHER in arch:
        return _several(arch, trunk_of)
    if timm_nets.is_timm(arch):
        return TimmTrunk(model if model is not None else timm_nets.create(arch), timm_nets.form_of(arch))
    cut = torchvision_nets.cut(arch)
    return _chain(model if model is not None else torchvision_nets.classifier(arch), cut)


def trunk_outline(arch: str) -> Trunk:
    """A trunk whose parameters wait to be loaded: nothing is drawn and thrown away."""
    if TOGETHER in arch:
        return _several(arch, trunk_outline)
    if timm_nets.is_timm(arch):
        return TimmTrunk(timm_nets.outline(arch), timm_nets.form_of(arch))
    outline = torchvision_nets.outline(arch)
    return _chain(outline, torchvision_nets.cut(arch, outline))


def _several(arch: str, make: Callable[[str], Trunk]) -> SeveralTrunks:
    """The networks of ``arch``, a+b; what each expects images to be normalised with waits to be loaded with their weights."""
    names = arch.split(TOGETHER)
    return SeveralTrunks([make(name) for name in names], [((0.0,) * 3, (1.0,) * 3)] * len(names))


def _chain(classifier: nn.Module, cut: tuple[int, int]) -> TorchvisionTrunk:
    early, width = cut
    children = torchvision_nets.trunk_children(classifier)
    parts = torchvision_nets.in_order(children, 0, early), torchvision_nets.in_order(children, early, len(children))
    tokens = torchvision_nets.is_vit(classifier)
    return TorchvisionTrunk(*parts, torchvision_nets.pre_logits(classifier), width, tokens)


# ---- sizes


def takes(trunk: Trunk, size: int) -> bool:
    """Whether a trunk on the meta device takes images of ``size`` px; only shapes are computed.

    Raises UserError for one whose patches form no square map there, since the review shows where a network looks.
    """
    try:
        with torch.inference_mode():
            lasts = trunk.lasts(torch.empty(1, 3, size, size, device="meta"))
            trunk.pool_all(lasts)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, ZeroDivisionError):
        return False
    trunk.maps_of_all(lasts)
    return True


def check_sizes(arch: str, sizes: Iterable[int]) -> None:
    """Raise UserError, which names the nearest sizes that fit, for sizes (px) that a network does not take: one that is
    not a multiple of its patches, does not suit its windows, or is too small for its depth."""
    trunk = meta_trunk(arch)
    for size in sorted(set(sizes)):
        if not takes(trunk, size):
            raise UserError(
                f"model.arch: {arch} does not take images of {size} px ({_that_fit(trunk, arch, size)}); change `size` of "
                "the recipe's stages, or the network"
            )


def meta_trunk(arch: str) -> Trunk:
    """A trunk on the meta device, in evaluation mode: it has shapes only."""
    return trunk_outline(arch).to("meta").eval()


def _that_fit(trunk: Trunk, arch: str, size: int) -> str:
    below = _first(trunk, range(size - 1, max(0, size - _NEAREST - 1), -1))
    above = _first(trunk, range(size + 1, size + _NEAREST + 1))
    found = [near for near in (below, above) if near]
    if not found:  # some are made for one size
        own = {timm_nets.native_size(name) for name in arch.split(TOGETHER)}
        found = sorted(size for size in own if takes(trunk, size))
    return f"the nearest that it takes: {' and '.join(map(str, found))}" if found else "nor of any size near it"


def _first(trunk: Trunk, sizes: Sequence[int]) -> int | None:
    return next((size for size in sizes if takes(trunk, size)), None)
