"""Files below the data root, by path, where a zip archive, a JSON file of arrays and a .npy stack count as folders.

`train.zip/a/1.jpg` is a member of an archive, read where it lies and never unpacked to disk (so is `train.7z/a/1.jpg`,
by py7zr, which has to hold all of an archive in memory); `train.json/4f29` is the
record whose id is 4f29, `x.npy/7` the eighth array: both come as the bytes of a .npy file, which images.py decodes.
`train.bson/42` is the image of the document whose id is 42 (documents.py).
"""

import importlib
import io
import json
import math
import os
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from eightfold.core.files import UserError
from eightfold.core.listing import files_below, is_folder, is_litter
from eightfold.raw.archives import bomb, refusal, zip_refusal
from eightfold.raw.bson import Documents
from eightfold.raw.images import BadImage
from eightfold.raw.strangers import MAX_FILE, content_of

MAX_UNPACKED = 2**33  # bytes of a .7z archive, which can only be unpacked as a whole


class Store:
    """What lies below ``root``. ``reading``: {"id", "bands", "range"}, how a JSON file of arrays is read (config data)."""

    def __init__(self, root: str | os.PathLike, reading: dict):
        self.root, self.reading = os.fspath(root), reading
        self._real = os.path.join(os.path.realpath(root), "")
        self._open: dict[str, _Zip | _SevenZip | _Records | _Stack | Documents] = {}
        self._lock = threading.Lock()

    def files(self, folders: Iterable[str] = ()) -> set[str]:
        """Every file below the root, and what the archives and arrays on the way to ``folders`` hold."""
        found = {path for path, _ in files_below(self.root)}
        for container in {self._split(folder)[0] for folder in folders} - {""}:
            found.update(f"{container}/{name}" for name in self._container(container).names())
        return found

    def folders(self) -> list[str]:
        """Names of the folders at the root, and of those in the archives that were opened: for messages."""
        here = [
            entry.name for entry in os.scandir(self.root) if is_folder(entry) or entry.name.endswith((".zip", ".7z"))
        ]
        inner = {
            f"{path}/{name.split('/')[0]}" for path, opened in self._open.items() for name in opened.names()[:9999]
        }
        return sorted({*here, *(path for path in inner if self.is_folder(path))})

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of this name: a true one, an archive or a file of arrays, or one in an archive."""
        container, inner = self._split(path)
        if not container:
            return os.path.isdir(os.path.join(self.root, path))
        return not inner or any(name.startswith(inner + "/") for name in self._container(container).names())

    def holds_arrays(self, path: str) -> bool:
        """Whether the path is that of an array, or of a file of them."""
        return self._split(path)[0].endswith((".json", ".npy", ".bson"))

    def escapes(self, path: str) -> bool:
        """Whether the file is a link that leads out of the root."""
        return not os.path.realpath(os.path.join(self.root, self._split(path)[0] or path)).startswith(self._real)

    def read(self, path: str) -> bytes:
        """The bytes of a file, a member or an array. Raises OSError, or BadImage for a damaged one in a container."""
        container, inner = self._split(path)
        if container and inner:
            return self._container(container).read(inner)
        return content_of(os.path.join(self.root, path))

    def records(self, path: str) -> list[dict]:
        """The records of a JSON file, parsed once. Raises UserError naming the file unless it is a list of them."""
        with self._lock:
            opened = self._open.get(path)
            if not isinstance(opened, _Records):
                opened = self._open[path] = _Records(os.path.join(self.root, path), self.reading, self.read(path))
        return opened.records

    def documents(self, path: str) -> Documents:
        """A BSON file, gone through once. Raises UserError naming the file unless it is one."""
        return self._container(path)

    def _container(self, path: str) -> "_Zip | _SevenZip | _Records | _Stack | Documents":
        with self._lock:
            if path not in self._open:
                kinds = {".zip": _Zip, ".7z": _SevenZip, ".json": _Records, ".npy": _Stack, ".bson": Documents}
                self._open[path] = kinds[os.path.splitext(path)[1]](os.path.join(self.root, path), self.reading)
            return self._open[path]

    def _split(self, path: str) -> tuple[str, str]:
        """(the archive or file of arrays that the path leads into, the path in it); ("", "") for a true path."""
        parts = os.path.normpath(path).split("/")
        for end, part in enumerate(parts, 1):
            suffix = os.path.splitext(part)[1]
            if suffix in (".zip", ".7z", ".npy", ".bson") or (suffix == ".json" and self.reading["bands"]):
                container = "/".join(parts[:end])
                if container in self._open or os.path.isfile(os.path.join(self.root, container)):
                    return container, "/".join(parts[end:])
        return "", ""


class _Zip:
    """A zip archive, all of whose members were looked at before one is read."""

    def __init__(self, path: str, reading: dict):
        self.path = path
        try:
            self.archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not a readable zip archive ({error}); download it again") from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in self.archive.infolist():
            name = member.filename.replace("\\", "/")
            if member.is_dir() or _lies_in_litter(name):
                continue
            problem = zip_refusal(member) or ("is there twice" if name in self.members else "")
            if problem := problem or bomb(member.file_size, member.compress_size, MAX_FILE):
                raise UserError(f"{path}: member {member.filename!r} {problem}; such an archive is not opened")
            self.members[name] = member

    def names(self) -> list[str]:
        return list(self.members)

    def read(self, name: str) -> bytes:
        if name not in self.members:
            raise FileNotFoundError(2, "no such member", f"{self.path}/{name}")
        try:
            return self.archive.read(self.members[name])  # at most the declared size; the checksum is compared
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise BadImage(f"damaged in its archive ({error})") from error


class _SevenZip:
    """A .7z archive, unpacked into memory when the first of its members is read."""

    def __init__(self, path: str, reading: dict):
        try:
            py7zr = importlib.import_module("py7zr")
        except ImportError:
            raise UserError(
                f"{path}: needs the package py7zr: pip install -r envs/requirements-extra.txt. Or unpack it by hand"
            ) from None
        self.path, self.contents, self.lock = path, None, threading.Lock()
        try:
            with py7zr.SevenZipFile(path) as archive:
                locked, members = archive.needs_password(), archive.list()
        except (OSError, py7zr.Bad7zFile) as error:
            raise UserError(f"{path}: not a readable 7z archive ({error}); download it again") from error
        self.members: list[str] = []
        total, packed = sum(member.uncompressed for member in members), os.path.getsize(path)
        if total > MAX_UNPACKED:
            raise UserError(f"{path}: {total:,} bytes are too many to unpack in memory; unpack it by hand")
        for member in members:
            name = member.filename
            if member.is_directory or _lies_in_litter(name):
                continue
            problem = refusal(name, member.is_symlink, locked) or ("is there twice" if name in self.members else "")
            # Members are packed together, so that each counts as if it were the whole archive.
            if problem := problem or bomb(total, packed, MAX_UNPACKED):
                raise UserError(f"{path}: member {name!r} {problem}; such an archive is not opened")
            self.members.append(name)

    def names(self) -> list[str]:
        return self.members

    def read(self, name: str) -> bytes:
        with self.lock:
            if self.contents is None:
                self.contents = self._unpacked()
        if name not in self.contents:
            raise FileNotFoundError(2, "no such member", f"{self.path}/{name}")
        return self.contents[name]

    def _unpacked(self) -> dict[str, bytes]:
        py7zr, factories = importlib.import_module("py7zr"), importlib.import_module("py7zr.io")
        factory = factories.BytesIOFactory(MAX_UNPACKED)
        try:
            with py7zr.SevenZipFile(self.path) as archive:
                archive.extract(targets=self.members, factory=factory)
        except (OSError, py7zr.exceptions.ArchiveError, EOFError, ValueError) as error:
            raise UserError(f"{self.path}: damaged ({error}); download it again") from error
        return {name: product.read() for name, product in factory.products.items() if product.seek(0) == 0}


def _lies_in_litter(name: str) -> bool:
    return any(is_litter(part) for part in name.split("/") if part not in (".", ".."))


class _Records:
    """A JSON list of records, one an image, whose bands (keys) are lists of numbers."""

    def __init__(self, path: str, reading: dict, content: bytes | None = None):
        bands = reading["bands"] or []

        def numbers(record: dict) -> dict:
            # Made arrays while the file is read: as Python's numbers they would take twenty times the memory.
            for band in bands:
                if isinstance(record.get(band), list):
                    try:
                        record[band] = np.asarray(record[band], np.float32)
                    except (ValueError, TypeError):
                        record[band] = None
            return record

        try:
            self.records = json.loads(Path(path).read_bytes() if content is None else content, object_hook=numbers)
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: not a readable JSON file ({error})") from error
        if not isinstance(self.records, list) or not all(isinstance(record, dict) for record in self.records):
            raise UserError(f"{path}: not a list of records; as a table of images it must be [{{...}}, {{...}}]")
        self.bands, self._rows = bands, {}
        if bands:
            missing = [number for number, record in enumerate(self.records, 1) if reading["id"] not in record]
            if missing:
                raise UserError(f"{path}: record {missing[0]} has no {reading['id']!r} (data.id)")
            ids = [cell_text(record[reading["id"]]) for record in self.records]
            twice = [name for name, count in Counter(ids).items() if count > 1]
            if twice:
                raise UserError(f"{path}: {len(twice)} ids stand for more than one record, the first {twice[0]!r}")
            self._rows = dict(zip(ids, self.records, strict=True))

    def names(self) -> list[str]:
        return list(self._rows)

    def read(self, name: str) -> bytes:
        record = self._rows.get(name)
        if record is None:
            raise FileNotFoundError(2, "no such record", name)
        planes = []
        for band in self.bands:
            values = record.get(band)
            if not isinstance(values, np.ndarray):
                raise BadImage(f"{band} is not a list of numbers")
            side = math.isqrt(values.size)
            if values.ndim == 1 and side * side != values.size:
                raise BadImage(f"{band} has {values.size} values, which make no square")
            planes.append(values.reshape(side, side) if values.ndim == 1 else values)
        if len({plane.shape for plane in planes}) > 1 or planes[0].ndim != 2:
            raise BadImage(f"bands of shapes {[plane.shape for plane in planes]} are not an image")
        return as_npy(np.stack(planes, -1))


class _Stack:
    """A .npy file whose first axis counts images, read by memory map; the number of an image is its name."""

    def __init__(self, path: str, reading: dict):
        try:
            self.arrays = np.lib.format.open_memmap(path, mode="r")  # objects, which would be pickles, are refused
        except Exception as error:  # its header is read as Python, and raises whatever that can raise
            raise UserError(f"{path}: not a readable .npy file ({error})") from error
        if self.arrays.ndim not in (3, 4):
            raise UserError(f"{path}: an array of shape {self.arrays.shape} is not a stack of images")

    def names(self) -> list[str]:
        return [str(number) for number in range(len(self.arrays))]

    def read(self, name: str) -> bytes:
        if not name.isdecimal() or int(name) >= len(self.arrays):
            raise FileNotFoundError(2, "no such array", name)
        return as_npy(self.arrays[int(name)])


def as_npy(array: np.ndarray) -> bytes:
    """The array as the content of a .npy file."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def cell_text(value: object) -> str:
    """A JSON or numpy value as it would stand in a CSV: whole numbers of any length, 1 and 0 for true and false."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool | np.bool_) else str(value)
