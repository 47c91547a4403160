"""Snakemake's memory of what made each file, brought into line with the records that lie beside the results.

Snakemake decides by `.snakemake/metadata` what has to be made again, and takes a file that it has no record of for up to
date. People delete that folder to get rid of a lock, copy results from a cluster without it, or lose it to a power cut. So before
anything is planned, each result that Snakemake does not know gets the record of its job back (core/made.py). Where there is
none, or the inputs are no longer those of the record, it gets one that agrees with no params: Snakemake makes it again, in
its own way, and nothing is deleted here.

How Snakemake names and writes a record is private to it, and only this module knows.
"""

import functools
import json
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eightfold.core.made import checksum, record_path

FOLDER = Path(".snakemake")
UNKNOWN = "made of something else, or by nobody knows what"  # the params of what has to be made again


class Recalled(NamedTuple):
    """``restored``: files whose record was given back. ``unknown``: files that have no record. ``changed``:
    files that were made from other inputs, by the first such input."""

    restored: list[str]
    unknown: list[str]
    changed: dict[str, str]


def recall(jobs: Iterable[list[str]], version: int, folder: Path = FOLDER) -> Recalled:
    """Bring Snakemake's memory into line, for jobs that are given by the paths of their outputs.

    ``version``: of the format of its records. What Snakemake remembers counts as long as a file is the very one that it saw
    being finished, by its time; what a killed job left is not touched, as Snakemake makes it again by itself.
    """
    done = Recalled([], [], {})
    for outputs in jobs:
        there = [path for path in outputs if os.path.exists(path)]
        if not all(_remembered(folder, path) for path in there) and not any(
            _place(folder / "incomplete", path).exists() for path in there
        ):
            _recall_job(folder, outputs, there, version, done)
    return done


def divide(outputs: Iterable[str], parts: list[str], version: int, folder: Path = FOLDER) -> None:
    """Have Snakemake remember what is there as joined from ``parts``, whichever it was joined from: no result depends on that.

    Otherwise it would take another number of parts for other inputs, and make all that lies below again. A part has gone when its
    whole is there, and depends on what the whole depends on.
    """
    for path in filter(os.path.exists, outputs):
        kept = _read(_place(folder / "metadata", path))
        if not _usable(kept) or kept.get("input") is None or not kept.get("endtime"):
            continue
        alone = [name for name in kept["input"] if ".parts/" not in name]
        if kept["input"] != (inputs := sorted(alone + parts)):
            _write(folder, path, {**kept, "input": inputs}, version, kept["endtime"])
        checksums = {name: kept["input_checksums"][name] for name in alone if name in kept["input_checksums"]}
        of_a_part = {"params": kept["params"], "input": alone, "input_checksums": checksums}
        for part in (part for part in parts if not os.path.exists(part)):
            before = _read(_place(folder / "metadata", part)) or {}
            if any(before.get(key) != value for key, value in of_a_part.items()):
                _write(folder, part, of_a_part, version, kept["endtime"])


def parts_of(output: str) -> list[str] | None:
    """The parts that a file was joined from, as "1_of_2", ..., by the record beside it; none where one job made it whole.
    None where there is no record."""
    record = _read(record_path(output))
    if record is None:
        return None
    found = {match[1] for path in record["input"] if (match := re.search(r"\.parts/(\d+_of_\d+)\b", path))}
    return sorted(found, key=lambda name: int(name.partition("_")[0]))


def forget(outputs: Iterable[str], version: int, folder: Path = FOLDER) -> None:
    """Have Snakemake make some files again, those of them that are there."""
    for path in filter(os.path.exists, outputs):
        _write(folder, path, {"params": [UNKNOWN]}, version)


def summary(recalled: Recalled) -> str:
    """What was done, for a person; empty where nothing was."""
    lines = []
    if found := recalled.restored:
        lines.append(
            f"Snakemake had no record of {_files(found)}; what made them is written beside them, and what agrees with the "
            "config and the code is kept."
        )
    if found := recalled.unknown:
        lines.append(f"Nothing says what made {_files(found)}: made again where they are asked for.")
    if found := recalled.changed:
        first, because = next(iter(found.items()))
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        lines.append(f"{first}{more}: made of another {because}; made again where asked for.")
    return "\n".join(lines)


def _files(paths: list[str]) -> str:
    return f"{len(paths)} files ({paths[0]}, ...)" if len(paths) > 1 else paths[0]


def _recall_job(folder: Path, outputs: list[str], there: list[str], version: int, done: Recalled) -> None:
    record = _read(record_path(outputs[0]))
    if record is None:
        unknown = [path for path in there if not _usable(_read(_place(folder / "metadata", path)))]
        forget(unknown, version, folder)
        done.unknown.extend(unknown)
        return
    because = _changed_input(record)
    for path in there:
        kept = _read(_place(folder / "metadata", path))
        if because is not None:
            forget([path], version, folder)
            done.changed[path] = because
        elif not _usable(kept) or any(kept.get(key) != record[key] for key in ("params", "input", "input_checksums")):
            _write(folder, path, record, version)
            done.restored.append(path)


def _remembered(folder: Path, path: str) -> bool:
    """Whether Snakemake has a whole record of this very file."""
    record = _read(_place(folder / "metadata", path))
    return _usable(record) and record.get("endtime") == os.stat(path).st_mtime


def _usable(record: dict | None) -> bool:
    return record is not None and record.get("params") != [UNKNOWN]


def _changed_input(record: dict) -> str | None:
    """The first input that is there and is not what the job read; None where all are, or are not there."""
    for path, before in record["input_checksums"].items():
        if os.path.exists(path) and checksum(path) != before:
            return path
    return None


def _read(path: Path) -> dict | None:
    """A record; None where there is none, or not a whole one."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record else None


def _place(folder: Path, path: str) -> Path:
    """Where Snakemake keeps its record of a file: the path in base64, in folders where it is too long for a name."""
    name, longest = urlsafe_b64encode(path.encode()).decode(), _longest_name()
    parts = [name[start : start + longest - 1] for start in range(0, len(name), longest - 1)]
    return folder.joinpath(*("@" + part for part in parts[:-1]), parts[-1])


@functools.cache
def _longest_name() -> int:
    return os.pathconf(".", "PC_NAME_MAX") or 255


def _write(folder: Path, path: str, record: dict, version: int, endtime: float | None = None) -> None:
    """``endtime``: when the file was finished; None for the time that it has now."""
    place = _place(folder / "metadata", path)
    place.parent.mkdir(parents=True, exist_ok=True)
    (folder / "incomplete").mkdir(exist_ok=True)  # without it Snakemake takes its folder for one of an old version
    endtime = os.stat(path).st_mtime if endtime is None else endtime
    record = {**record, "record_format_version": version, "incomplete": False, "endtime": endtime}
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    os.replace(temporary, place)
