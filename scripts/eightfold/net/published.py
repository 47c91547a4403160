"""Which published file a name such as `DEFAULT` stands for: another one, perhaps, after an upgrade."""

from collections.abc import Sequence

from eightfold.core.networks import PACKAGE, is_path, networks_of
from eightfold.net import timm_nets, torchvision_nets


def published_file(arch: str, weights: str | Sequence[str]) -> str | list[str | None] | None:
    """The name of the file that ``weights`` of ``arch`` are published as, as in "resnet18-f37072fd.pth", whose digits begin
    its sha256; of timm, the tag of its weights. None for random weights and for a file of the user's. Of several networks,
    a+b, that of each."""
    found = [_file_of_one(*network) for network in networks_of(arch, weights)]
    return found if len(found) > 1 else found[0]


def _file_of_one(arch: str, weights: str) -> str | None:
    if weights == "none" or weights.startswith(PACKAGE) or is_path(weights):
        return None
    if timm_nets.is_timm(arch):
        found = timm_nets.outline(arch).pretrained_cfg
        return str(found.get("tag") or found.get("hf_hub_id") or found.get("url") or "")
    choices = torchvision_nets.torchvision_models().get_model_weights(arch)
    return choices[weights].url.rpartition("/")[2] if weights in choices.__members__ else None
