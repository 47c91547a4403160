"""Who holds a working folder: so that the lock of a dead Snakemake can be known from that of a living one.

Snakemake's own lock is a list of files that says neither who wrote it nor whether that process lives. Beside it each run
holds a file of ours, `.snakemake/running.json`, by a lock of the kernel, which goes with the process.

Where Snakemake keeps its lock is private to it, and only this module knows. `snakemake --unlock` would take 1.9 s, and would
also remove the lock of a run that starts in that time; here only the files that the dead run left are removed.
"""

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import IO

FOLDER = Path(".snakemake")
_held: list[IO] = []  # open until the process ends


def _file(folder: Path) -> Path:
    return folder / "running.json"


def snakemake_locks(folder: Path = FOLDER) -> list[Path]:
    """The files that are Snakemake's lock; none where the folder is not locked."""
    return [path for path in (folder / "locks").glob("*") if path.is_file()]


def hold(folder: Path = FOLDER) -> None:
    """Say that this process runs here, until it ends. Where the file system knows no locks, nothing is said."""
    folder.mkdir(exist_ok=True)
    file = open(_file(folder), "a+", encoding="utf-8")  # noqa: SIM115 - held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n")
    file.flush()
    _held.append(file)


def release_dead(folder: Path = FOLDER) -> str:
    """Remove Snakemake's lock where the run that wrote it is dead; what was done, or what to do, in words.

    Empty where there is no lock. Only what is as old as a dead run's own file goes: a run that is just starting has
    locked already and not yet said so.
    """
    locks = snakemake_locks(folder)
    if not locks:
        return ""
    todo = "If none does, on any machine that shares this folder, `make unlock` releases it."
    try:
        with open(_file(folder), "r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = json.loads(file.readline() or "{}")
                return f"Another run works in this folder ({_name(holder)}); it is left alone."
            holder, since = json.loads(file.readline() or "{}"), os.fstat(file.fileno()).st_mtime_ns
            if holder.get("host") != socket.gethostname():
                return (
                    f"This folder is locked by a run of another machine ({_name(holder)}). Does it still go on? {todo}"
                )
            if any(path.stat().st_mtime_ns > since for path in locks):
                return f"This folder is locked, it is not known by whom. Does a run go on here? {todo}"
            for path in locks:
                path.unlink(missing_ok=True)
            return f"The last run here ({_name(holder)}) was killed; its lock is released, and its work is taken up."
    except (OSError, ValueError):
        return f"This folder is locked, it is not known by whom. Does a run go on here? {todo}"


def _name(holder: dict) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
