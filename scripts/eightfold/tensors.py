"""Tensor files: safetensors (no pickle can hide in them), whole or absent, that carry what made them."""

import json
import os
from collections.abc import Mapping

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from eightfold.files import UserError, replacing


def save(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], identity: str, **notes: object) -> None:
    """Write named tensors with the ``identity`` (digest of what made them) and short notes (JSON values)."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        # One entry, because safetensors writes several in an order that differs from run to run.
        save_file(
            contiguous, temporary, metadata={"eightfold": json.dumps({"identity": identity, **notes}, sort_keys=True)}
        )


def _notes(file) -> dict:
    return json.loads((file.metadata() or {}).get("eightfold", "{}"))


def load(path: str | os.PathLike, identity: str | None = None, prefix: str = "") -> dict[str, torch.Tensor]:
    """Read the tensors whose names begin with ``prefix``, and name them without it.

    Raises UserError when the file is no safetensors file or was made by something else than ``identity`` says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = _notes(file).get("identity")
            if identity is not None and found != identity:
                raise UserError(
                    f"{path}: made from other inputs or settings (it says {found}, wanted {identity}); delete it and run again"
                )
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            return {name[len(prefix) :]: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from error


def notes(path: str | os.PathLike) -> dict:
    """The identity and the notes of a file, without reading its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return _notes(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from error
