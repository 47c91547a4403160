"""The network: the trunk of a classifier of torchvision (or timm), cut in two groups, under the 0.7 head."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.core.without_compiler import without_compiler
from eightfold.net import timm_nets

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)  # timm's kinds are subclasses
_EARLY_STRIDE = 8  # the early group ends where the map is an eighth of the image: after layer2 of a resnet, as in 0.7
_NOT_TRUNK = {"avgpool", "fc", "classifier", "head", "heads", "dropout", "aux1", "aux2", "AuxLogits"}


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


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under autocast too: the logits' last digits are those of a probability."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class _Tracer(fx.Tracer):
    """Follows a network's calls, and takes a Float32Linear as one, as it does torch's own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Float32Linear) or super().is_leaf_module(m, module_qualified_name)


def head(features: int, classes: int, seed: int) -> nn.Sequential:
    """fastai 0.7's head on a pooled vector of ``2 * features``: logits of ``classes``.

    Kaiming-normal weights and zero biases, drawn from ``seed`` alone. (resnet34, 2 classes: 528,898 parameters.)
    """
    layers = nn.Sequential(
        nn.BatchNorm1d(2 * features),
        nn.Dropout(0.25),
        nn.Linear(2 * features, 512),
        nn.ReLU(),
        nn.BatchNorm1d(512),
        nn.Dropout(0.5),
        Float32Linear(512, classes),
    )
    source = torch.Generator().manual_seed(seed)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=source)
            nn.init.zeros_(layer.bias)
    return layers


class LinearHead(Float32Linear):
    """One linear layer on a pooled vector: (inputs, classes).

    Standardisation is folded into it, so its logits are small differences of large terms, which bfloat16 would lose.
    """


class Net(nn.Module):
    """Trunk and head. Its three layer groups learn at different rates: ``trunk.early``, ``trunk.late``, ``head``."""

    def __init__(self, trunk: Trunk, head: nn.Module):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


def groups(net: nn.Module) -> list[nn.Module]:
    """The layer groups of a network, first to last: three for a Net, the head alone for a head."""
    return [net.trunk.early, net.trunk.late, net.head] if isinstance(net, Net) else [net]


def rate_groups(net: nn.Module, stage: Mapping) -> list[list[nn.Parameter]]:
    """The parameters of a network that share a rate, first to last: those of its layer groups, or, where the stage has a
    ``layer_decay``, of each of its blocks, and of its head."""
    if stage.get("layer_decay") and isinstance(net, Net):
        parts = [*_blocks(net.trunk), list(net.head.parameters())]
    else:
        parts = [list(group.parameters()) for group in groups(net)]
    return [[parameter for parameter in part if parameter.requires_grad] for part in parts]


def _blocks(trunk: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a trunk's blocks in order of depth: its children, where those that are sequences are opened.

    What has no children of its own, such as a norm after a convolution, belongs to the block before it.
    """
    model = trunk.model if isinstance(trunk, TimmTrunk) else trunk
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


def set_training(net: nn.Module, bn_freeze: bool = False) -> None:
    """Put what learns in training mode and what is frozen in eval mode.

    A trunk whose parameters are frozen is in eval mode whole, BatchNorm included: it is then a pure function of the
    pixels, which is what makes cached activations exact. ``bn_freeze`` keeps all BatchNorm of a learning trunk in eval.
    """
    net.train()
    if isinstance(net, Net):
        learns = any(parameter.requires_grad for parameter in net.trunk.parameters())
        net.trunk.train(learns)
        if learns and bn_freeze:
            for module in net.trunk.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()


def is_timm(arch: str) -> bool:
    return arch.startswith(timm_nets.PREFIX)


def _models():
    with without_compiler():
        import torchvision.models  # head stages never need it

    return torchvision.models


def architectures() -> list[str]:
    """The names of torchvision's classifiers."""
    models = _models()
    return models.list_models(module=models)


def _classifier(arch: str) -> nn.Module:
    """An untrained torchvision classifier of ImageNet's thousand classes. Raises UserError for an unknown name."""
    if arch not in architectures():
        raise UserError(f"model.arch: torchvision has no classifier {arch!r}; it has {', '.join(architectures())}")
    extra = {"init_weights": True, "aux_logits": False} if arch in ("googlenet", "inception_v3") else {}
    return _models().get_model(arch, weights=None, **extra)


def folded(net: nn.Module) -> nn.Module:
    """The same function for inference, with each BatchNorm merged into the convolution before it; ``net`` stays as it is.

    ``net`` must be in eval mode. A pass over each map is saved: 1.4 times the speed for mobilenet_v2, 1.06 for resnet34
    (float32, one thread of a Xeon at 2.5 GHz, torch 2.15). A network that cannot be traced is returned itself.
    """
    if not any(isinstance(module, nn.Conv2d) for module in net.modules()):
        return net
    try:
        traced = fx.GraphModule(net, _Tracer().trace(net))
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError):
        return net
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1):
            continue
        norm, convolution = modules[node.target], modules[before.target]
        calls = sum(other.target == before.target for other in traced.graph.nodes)
        if type(norm) is nn.BatchNorm2d and type(convolution) is nn.Conv2d and calls == 1:
            traced.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _flat(children: Iterable[tuple[str, nn.Module]]) -> OrderedDict[str, nn.Module]:
    """Children in the order of the forward pass; a list of modules, which cannot be called, is opened."""
    flat = OrderedDict()
    for name, child in children:
        if isinstance(child, nn.ModuleList):
            flat.update((f"{name}_{i}", block) for i, block in enumerate(child))
        else:
            flat[name] = child
    return flat


def _children(model: nn.Module) -> OrderedDict[str, nn.Module]:
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


def _outline(arch: str) -> nn.Module:
    """A classifier without memory behind its tensors: it has shapes, and nothing is drawn and thrown away."""
    try:
        with without_compiler(), torch.device("meta"):
            return _classifier(arch).eval()
    except NotImplementedError:  # regnet computes its widths with tensors, which need memory
        with torch.random.fork_rng(devices=[]):
            return _classifier(arch).eval().to("meta")


def _cut(arch: str, outline: nn.Module | None = None) -> tuple[int, int]:
    """How many of the children form the early group, and the channels of the last map; found without memory or work."""
    children = _children(outline or _outline(arch))
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


def trunk_of(arch: str, model: nn.Module | None = None) -> Trunk:
    """The trunk of a classifier: of ``model`` where given, else of a new one with random weights.

    Raises UserError for an architecture that torchvision, or timm, lacks, and for one without a convolutional trunk (vit).
    """
    if is_timm(arch):
        features = timm_nets.features(arch)
        return TimmTrunk(model if model is not None else timm_nets.create(arch), features)
    early, features = _cut(arch)
    children = list(_children(model if model is not None else _classifier(arch)).items())
    return Trunk(nn.Sequential(OrderedDict(children[:early])), nn.Sequential(OrderedDict(children[early:])), features)


def trunk_outline(arch: str) -> Trunk:
    """A trunk whose parameters wait to be loaded: nothing is drawn and thrown away."""
    if is_timm(arch):
        return TimmTrunk(timm_nets.outline(arch), timm_nets.features(arch))
    outline = _outline(arch)
    early, features = _cut(arch, outline)
    children = list(_children(outline).items())
    return Trunk(nn.Sequential(OrderedDict(children[:early])), nn.Sequential(OrderedDict(children[early:])), features)


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
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"model.weights: {path} holds no state dict (names to tensors)")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _load_weights_file(arch: str, path: str) -> nn.Module:
    """A classifier with the weights of a file. Its own last layer may have any number of classes; all else must fit."""
    if not Path(path).is_file():
        raise UserError(
            f"model.weights: {path} does not exist (give DEFAULT, IMAGENET1K_V1, none or the path of a file)"
        )
    model, state = timm_nets.create(arch) if is_timm(arch) else _classifier(arch), _read_state(path)
    own = model.state_dict()
    trunk_keys = set(own if is_timm(arch) else _trunk_keys(model))
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


def _trunk_keys(model: nn.Module) -> list[str]:
    """The names, in the classifier's state dict, of the tensors that its trunk holds."""
    held = {id(tensor) for child in _children(model).values() for tensor in child.state_dict(keep_vars=True).values()}
    return [name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in held]


def pretrained(arch: str, weights: str, seed: int) -> tuple[Trunk, tuple[float, ...], tuple[float, ...]]:
    """The starting trunk and the mean and standard deviation its images are normalised with.

    weights: `none` (random, drawn from ``seed``), a name such as `DEFAULT` or `IMAGENET1K_V1` (downloaded once by
    torchvision, or timm, to its own cache), or the path of a file. Raises UserError for weights that do not fit or cannot be had.
    """
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if is_timm(arch):
        mean, std = timm_nets.expected(timm_nets.outline(arch))
    if arch in ("googlenet", "inception_v3"):
        mean = std = (0.5, 0.5, 0.5)  # their published weights expect images in [-1, 1]
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return trunk_of(arch), mean, std
    if os.sep in weights or "." in weights:
        return trunk_of(arch, _load_weights_file(arch, weights)), mean, std
    if is_timm(arch):
        if weights != "DEFAULT":
            raise UserError(
                f"model.weights: {arch} has no weights {weights!r}; it has DEFAULT, none, or the path of a file"
            )
        return trunk_of(arch, timm_nets.create(arch, pretrained=True)), mean, std
    model = _classifier(arch)
    choices = _models().get_model_weights(arch)
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
    keys = set(_trunk_keys(model))
    model.load_state_dict({key: value for key, value in state.items() if key in keys}, strict=False)
    preset = choices[weights].transforms()
    if arch not in ("googlenet", "inception_v3"):
        mean, std = tuple(preset.mean), tuple(preset.std)
    return trunk_of(arch, model), mean, std


def load_part(module: nn.Module, path: str | os.PathLike, part: str) -> None:
    """Fill a module from a checkpoint's tensors named ``part``.*. Raises UserError when they do not fit."""
    state = tensors.load(path, prefix=f"{part}.")
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path}: not the {part} of this network: {error}; delete it and run again") from error


def load_head(path: str | os.PathLike, prefix: str = "head") -> nn.Module:
    """The head that a checkpoint's tensors ``prefix``.* are of: a `LinearHead` where they are one weight and bias, else the
    0.7 head. Raises UserError when they are neither's.
    """
    state = tensors.load(path, prefix=f"{prefix}.")
    last = next((state[name] for name in ("weight", "6.weight") if name in state), None)
    first = state.get("weight", state.get("0.weight"))
    if last is None or first is None:
        raise UserError(f"{path}: holds no head named {prefix}; delete it and run again")
    with torch.device("meta"):
        net = LinearHead(first.shape[1], len(first)) if "weight" in state else head(len(first) // 2, len(last), 0)
    load_part(net, path, prefix)
    return net
