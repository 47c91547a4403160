"""BSON files of documents that hold images, {_id, category_id, imgs: [{picture: bytes}, ...]}, by pymongo's reader."""

import importlib
import mmap
import os
import struct

from eightfold.core.files import UserError
from eightfold.raw.images import BadImage

MAX_DOCUMENT = 2**28  # bytes; MongoDB itself takes no document above 16 MiB


class Documents:
    """A file of documents, each one image: the first of its list `imgs`. Its plain fields are those of a table.

    The file is mapped and gone through once; what is kept of a document is its plain fields and where it lies.
    """

    def __init__(self, path: str, reading: dict):
        try:
            self.bson = importlib.import_module("bson")
            importlib.import_module("bson.raw_bson")  # the package `bson`, which is another one, has no such part
        except ImportError:
            raise UserError(
                f"{path}: needs the package pymongo, which reads BSON: pip install -r envs/requirements-extra.txt"
            ) from None
        self.path, self.head, self.rows = path, [], []
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with open(path, "rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.path.getsize(path) else b""
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        start = 0
        while start < len(self._bytes):
            start = self._index(start, reading["id"])

    def _index(self, start: int, id_field: str) -> int:
        """Note the document at an offset; the offset of the next."""
        number = len(self.rows) + 1
        size = struct.unpack_from("<i", self._bytes, start)[0] if start + 4 <= len(self._bytes) else 0
        if not 5 <= size <= min(MAX_DOCUMENT, len(self._bytes) - start):
            raise UserError(f"{self.path}: document {number} is cut off or damaged; get the file again")
        fields = {name: str(value) for name, value in self._decoded(start, size, number).items() if _is_plain(value)}
        self.head = self.head or list(fields)
        odd = sorted(fields.keys() ^ set(self.head))
        if id_field not in fields or odd:
            lacks = (
                f"has no {id_field!r} (data.id)" if id_field not in fields else f"and document 1 differ in {odd[0]!r}"
            )
            raise UserError(f"{self.path}: document {number} {lacks}")
        if fields[id_field] in self._places:
            raise UserError(
                f"{self.path}: document {number}: the id {fields[id_field]!r} is that of an earlier one too"
            )
        self._places[fields[id_field]] = start, size
        self.rows.append((f"document {number}", [fields[name] for name in self.head]))
        return start + size

    def _decoded(self, start: int, size: int, number: int | str) -> dict:
        try:
            return self.bson.decode(self._bytes[start : start + size])
        except (self.bson.errors.BSONError, ValueError, OverflowError) as error:
            raise UserError(f"{self.path}: document {number} is not BSON ({error}); get the file again") from error

    def names(self) -> list[str]:
        return list(self._places)

    def read(self, name: str) -> bytes:
        if name not in self._places:
            raise FileNotFoundError(2, "no such document", name)
        images = self._decoded(*self._places[name], name).get("imgs")
        image = (
            images[0].get("picture") if isinstance(images, list) and images and isinstance(images[0], dict) else None
        )
        if not isinstance(image, bytes):
            raise BadImage("its document has no imgs[0].picture")
        return image


def _is_plain(value: object) -> bool:
    return not isinstance(value, list | dict | bytes) and value is not None
