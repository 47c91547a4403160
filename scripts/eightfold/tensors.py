"""Tensor files: safetensors (no pickle can hide in them), whole or absent, that carry what made them."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from eightfold.files import UserError, replacing


def save(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], identity: str, **notes: object) -> None:
    """Write named tensors with the ``identity`` (digest of what made them) and short notes (JSON values)."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    told = {"identity": identity, **notes}
    told["content"] = _content(contiguous, told)
    with replacing(path) as temporary:
        # In a folder of its own: safetensors writes beside the file, under a name that nobody would ever clean up.
        room = temporary.with_name(f"{temporary.name}.tmp")
        room.mkdir()
        try:
            # One entry, because safetensors writes several in an order that differs from run to run.
            save_file(contiguous, room / "file", metadata={"eightfold": json.dumps(told)})
            os.replace(room / "file", temporary)
        except SafetensorError as error:  # a full disk, in words of its own
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(path)) from error
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _content(tensors: Mapping[str, torch.Tensor], told: Mapping) -> str:
    """Digest of all that a file says: its tensors, contiguous and on the CPU, and its notes."""
    result = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():  # numpy may give an empty array strides of 0, which torch will not view as bytes
            result.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return result.hexdigest()


def _notes(file) -> dict:
    return json.loads((file.metadata() or {}).get("eightfold", "{}"))


def load(path: str | os.PathLike, identity: str | None = None, prefix: str = "") -> dict[str, torch.Tensor]:
    """Read the tensors whose names begin with ``prefix``, and name them without it.

    Raises UserError when the file is no safetensors file, was made by something else than ``identity`` says or, read
    whole for an ``identity``, is not what was written. Without one, its .json tells of the file (``files.checked``).
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = _notes(file)
            found = told.get("identity")
            if identity is not None and found != identity:
                raise UserError(
                    f"{path}: made from other inputs or settings (it says {found}, wanted {identity}); delete it and run again"
                )
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            tensors = {name[len(prefix) :]: file.get_tensor(name) for name in names}
        if identity is not None and not prefix and told.pop("content", None) != _content(tensors, told):
            raise UserError(f"{path}: damaged (its content has not the digest that it tells); delete it and run again")
        return tensors
    except (SafetensorError, OSError, ValueError) as error:  # ValueError: notes that are no JSON any more
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from error


def notes(path: str | os.PathLike) -> dict:
    """The identity and the notes of a file, without reading its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: value for name, value in _notes(file).items() if name != "content"}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from error
