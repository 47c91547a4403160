"""Which published file a name such as `DEFAULT` stands for: another one, perhaps, after an upgrade."""

import os
from collections.abc import Sequence

from eightfold.net import timm_nets, torchvision_nets
from eightfold.net.starting_weights import PACKAGE
from eightfold.net.trunks import TOGETHER


def published_file(arch: str, weights: str | Sequence[str]) -> str | list[str | None] | None:
    """The name of the file that ``weights`` of ``arch`` are published as, as in "resnet18-f37072fd.pth", whose digits begin
    its sha256; of timm, the tag of its weights. None for random weights and for a file of the user's. Of several networks,
    a+b, that of each."""
    if TOGETHER not in arch:
        return _file_of_one(arch, weights if isinstance(weights, str) else weights[0])
    names = arch.split(TOGETHER)
    each = [weights] * len(names) if isinstance(weights, str) else weights
    return [_file_of_one(name, of_it) for name, of_it in zip(names, each, strict=True)]


def _file_of_one(arch: str, weights: str) -> str | None:
    if weights == "none" or weights.startswith(PACKAGE) or os.sep in weights or "." in weights:
        return None
    if timm_nets.is_timm(arch):
        found = timm_nets.outline(arch).pretrained_cfg
        return str(found.get("tag") or found.get("hf_hub_id") or found.get("url") or "")
    choices = torchvision_nets.torchvision_models().get_model_weights(arch)
    return choices[weights].url.rpartition("/")[2] if weights in choices.__members__ else None
