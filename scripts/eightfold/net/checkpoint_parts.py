"""Parts of a network, read from the checkpoint of a stage."""

import os

import torch
from torch import nn

from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.net.heads import LinearHead, head


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
        net = LinearHead(first.shape[1], len(first)) if "weight" in state else head(len(first), len(last), 0)
    load_part(net, path, prefix)
    return net
