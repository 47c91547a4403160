"""Files that are whole or absent, and the digests that say what they hold."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """A mistake in the user's data or config: the message names it and says what to do.

    Scripts print it without a traceback, since the traceback would only hide the one line that matters.
    """


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; fsync it and rename it into place if the block ends well.

    A reader therefore sees the old file or the whole new one, and a failed block leaves nothing behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with os.scandir(
        path.parent
    ) as entries:  # what a killed job left half-written; two at once are kept apart by a lock
        stale = [e for e in entries if e.name.startswith(f".{path.name}.") and e.name.endswith(".tmp")]
    for old in stale:
        if old.is_dir(follow_symlinks=False):
            shutil.rmtree(old.path, ignore_errors=True)
        else:
            Path(old.path).unlink(missing_ok=True)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or os.fspath(path)  # a write that fails names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write ``value`` as JSON with sorted keys, so that equal values are equal bytes. NaN is refused (ValueError)."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON file. Raises UserError naming the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error}); delete it and run again") from error


def write_table(path: str | os.PathLike, table) -> None:
    """Write a pandas table as CSV, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def digest(value: object) -> str:
    """32 hex digits that identify a JSON value: equal for equal values, whatever the order of the keys of its dicts."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: str | os.PathLike, algorithm: str = "blake2b") -> str:
    """Hex digest of a file's bytes, by any algorithm of hashlib (blake2b is the fastest without special hardware)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def fingerprint(path: str | os.PathLike, blocks: int = 16, block_bytes: int = 65_536) -> str:
    """Hex digest of a file's size and of evenly spaced blocks: distinguishes two sets of weights in a millisecond.

    Used where the Snakefile is parsed, and only there; what is read in earnest is checked by ``file_digest``.
    """
    size = os.path.getsize(path)
    result = hashlib.blake2b(str(size).encode(), digest_size=16)
    with open(path, "rb") as file:
        for block in range(blocks):
            file.seek(max(0, size - block_bytes) * block // max(1, blocks - 1))
            result.update(file.read(block_bytes))
    return result.hexdigest()


def checked(path: str | os.PathLike, identity: dict) -> str | os.PathLike:
    """``path``, when its bytes have the digest that its identity file names. Raises UserError for a damaged file."""
    if file_digest(path) != identity["digest"]:
        raise UserError(f"{path}: damaged, or not the file its .json was written for; delete it and run again")
    return path


def identity_of(settings: dict, code: str, *inputs: str | os.PathLike) -> str:
    """Digest of what makes a result: its settings, its code, and the digests that the identity files name of its inputs."""
    return digest([settings, code, [read_json(path)["digest"] for path in inputs]])
