"""Tensor files: safetensors (no pickle can hide in them), whole or absent, that carry what made them.

The writer is our own on purpose: the library's takes only tensors that are whole in memory, and activations need not be.
"""

import hashlib
import itertools
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from eightfold.core.files import UserError, replacing

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Pieces(NamedTuple):
    """A tensor that need not be whole in memory: pieces of its first axis, in order, asked for when they are written."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Iterable[torch.Tensor]


def save(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor | Pieces], identity: str, **notes: object) -> None:
    """Write named tensors with the ``identity`` (digest of what made them) and short notes (JSON values).

    One tensor, or one piece of it, is copied at a time. Raises ValueError when pieces do not make up their shape.
    """
    notes_of_it = {"identity": identity, **notes}
    content, places = _Content(notes_of_it), _places(tensors)
    # The digest stands in the header, before what it is of: a place is kept for it.
    header = _header(tensors, places, {**notes_of_it, "content": "0" * len(content.hexdigest())})
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for name in sorted(tensors):
            tensor = tensors[name]
            file.seek(len(header) + places[name])
            content.begin(name, tensor)
            for piece in tensor.pieces if isinstance(tensor, Pieces) else [tensor]:
                if piece.dtype != tensor.dtype or piece.shape[1:] != tensor.shape[1:]:
                    raise ValueError(
                        f"{name}: {piece.dtype} {list(piece.shape)} is not a piece of {list(tensor.shape)}"
                    )
                file.write(content.update(piece))
            if file.tell() != len(header) + places[name] + _bytes(tensor):
                raise ValueError(f"{name}: its pieces do not make up {list(tensor.shape)}")
        file.seek(0)
        file.write(_header(tensors, places, {**notes_of_it, "content": content.hexdigest()}))


def _bytes(tensor: torch.Tensor | Pieces) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _places(tensors: Mapping[str, torch.Tensor | Pieces]) -> dict[str, int]:
    """Where each tensor begins, in bytes after the header: large numbers first, so that all are aligned."""
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    return dict(zip(names, itertools.accumulate((_bytes(tensors[name]) for name in names), initial=0), strict=False))


def _header(tensors: Mapping[str, torch.Tensor | Pieces], places: Mapping[str, int], notes_of_it: Mapping) -> bytes:
    """The head of a safetensors file: the length of a JSON text in eight bytes, and the text, which says where each tensor lies.

    https://github.com/huggingface/safetensors, "Format". The library itself writes only what is whole in memory, twice over.
    """
    entries: dict[str, dict] = {"__metadata__": {"eightfold": json.dumps(notes_of_it)}}
    for name, start in places.items():
        tensor = tensors[name]
        entries[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, start + _bytes(tensor)],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class _Content:
    """Digest of all that a file says: its notes, and its tensors by name."""

    def __init__(self, notes_of_it: Mapping):
        self._digest = hashlib.blake2b(json.dumps(notes_of_it, sort_keys=True).encode(), digest_size=16)
        self.hexdigest = self._digest.hexdigest

    def begin(self, name: str, tensor: torch.Tensor | Pieces) -> None:
        self._digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())

    def update(self, piece: torch.Tensor) -> bytes | np.ndarray:
        """Count the next bytes of a tensor, and return them."""
        piece = piece.detach().cpu().contiguous()
        # numpy may give an empty array strides of 0, which torch will not view as bytes
        data = piece.reshape(-1).view(torch.uint8).numpy() if piece.numel() else b""
        self._digest.update(data)
        return data


def _content(tensors: Mapping[str, torch.Tensor], notes_of_it: Mapping) -> str:
    content = _Content(notes_of_it)
    for name in sorted(tensors):
        content.begin(name, tensors[name])
        content.update(tensors[name])
    return content.hexdigest()


def _notes(file) -> dict:
    return json.loads((file.metadata() or {}).get("eightfold", "{}"))


def load(path: str | os.PathLike, identity: str | None = None, prefix: str = "") -> dict[str, torch.Tensor]:
    """Read the tensors whose names begin with ``prefix``, and name them without it. They lie in the mapped file.

    Raises UserError when the file is not a safetensors file, was made by something else than ``identity`` says or, read
    whole for an ``identity``, is not what was written. Without one, its .json describes the file (``files.checked``).
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes_of_it = _notes(file)
            found = notes_of_it.get("identity")
            if identity is not None and found != identity:
                raise UserError(
                    f"{path}: made from other inputs or settings (it says {found}, wanted {identity}); delete it and run again"
                )
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            tensors = {name[len(prefix) :]: file.get_tensor(name) for name in names}
        if identity is not None and not prefix and notes_of_it.pop("content", None) != _content(tensors, notes_of_it):
            raise UserError(
                f"{path}: damaged (its content does not have the digest that it names); delete it and run again"
            )
        return tensors
    except (SafetensorError, OSError, ValueError) as error:  # ValueError: notes that are not JSON any more
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from error


def notes(path: str | os.PathLike) -> dict:
    """The identity and the notes of a file, without reading its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: value for name, value in _notes(file).items() if name != "content"}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from error
