"""Which networks `make trunks` compares. Must not import torch: the Snakefile imports it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eightfold.core.files import UserError
from eightfold.core.networks import TOGETHER, networks_of

# Compared where nothing is named: of a few megabytes for a CPU, and what a GPU has time for.
SMALL = ["mobilenet_v3_large", "efficientnet_b0", "resnet34", "convnext_tiny"]
LARGE = ["resnet50", "convnext_base", "vit_b_16", "efficientnet_v2_m", "timm/vit_base_patch14_dinov2.lvd142m"]


class Racer(NamedTuple):
    """A network, or several put together, that the linear stage is fitted on. parts: (arch, weights) of each."""

    name: str
    parts: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> str:
        """Its name in letters that suit every path."""
        return re.sub(r"[^A-Za-z0-9._+-]+", "_", self.name)


def racers_of(model: dict, asked: str | Sequence[str], gpu: bool) -> list[Racer]:
    """The run's own network first, then those that are asked for: `<arch>`, `<arch>=<weights>`, or `<arch>+<arch>`, of
    networks that stand before it. model: of the config, resolved. asked: of the key `trunks`, where auto asks for the usual ones.

    Raises UserError for a network that comes twice, and for a part of several that does not stand before them.
    """
    weights = model["weights"]
    archs = [model["arch"]] if isinstance(model["arch"], str) else model["arch"]
    together = TOGETHER.join(archs)
    own = tuple(networks_of(together, weights))
    found = {together: Racer(together, own)}
    known = dict(own)
    words = asked.split() if isinstance(asked, str) else asked
    for word in default_racers(known, gpu) if words == ["auto"] else words:
        name, _, given = word.partition("=")
        if not given and name == together:
            continue  # its own, with its own weights
        if name in found:
            raise UserError(f"trunks: {name} comes twice; the run's own network is always compared")
        names = name.split(TOGETHER)
        if len(names) == 1:
            known[name] = given or "DEFAULT"
        elif given or (missing := [part for part in names if part not in known]):
            what = "takes its networks' own weights" if given else f"needs {', '.join(missing)} in the list before it"
            raise UserError(f"trunks: {word} {what}")
        found[name] = Racer(name, tuple((part, known[part]) for part in names))
    return list(found.values())


def default_racers(known: Sequence[str], gpu: bool) -> list[str]:
    """Those of the usual networks whose weights are on this machine; where none are, all of them, to be downloaded."""
    usual = [arch for arch in (LARGE if gpu else SMALL) if arch not in known]
    return [arch for arch in usual if is_on_disk(arch)] or usual


def is_on_disk(arch: str) -> bool:
    """Whether torchvision, or timm, has downloaded weights of a network on this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # both packages take it so
    if arch.startswith("timm/"):
        hub = Path(os.environ.get("HF_HOME") or cache / "huggingface") / "hub"
        return any(hub.glob(f"models--timm--{arch.removeprefix('timm/')}*/snapshots/*/*"))
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    return any((home / "hub" / "checkpoints").glob(f"{arch}-*.pth"))
