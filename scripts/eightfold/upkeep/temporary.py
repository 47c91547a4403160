"""A folder for temporary files that has room: Snakemake's scheduler writes there whatever TMPDIR names. Standard library only."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from eightfold.core.files import UserError

ROOM = 2**20  # bytes that must fit
NAMES = ("TMPDIR", "TEMP", "TMP")


def has_room(folder: str | os.PathLike) -> bool:
    """Whether a file of ROOM bytes can be written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
    except OSError:
        return False
    return True


def choose_folder(own: str | os.PathLike, usual: Sequence[str] = ("/tmp", "/var/tmp")) -> str:
    """Leave the environment's temporary folder as it is where it has room, else put another into it; what was done, in words.

    own: a folder that is made where the ``usual`` have no room either. Raises UserError where none has.
    """
    named = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
    wanted = list(dict.fromkeys(named.values())) or list(usual[:1])
    lacking = [folder for folder in wanted if not has_room(folder)]
    if not lacking:
        return ""
    for folder in (*usual, own):
        if folder == own:
            Path(own).mkdir(parents=True, exist_ok=True)
        if has_room(folder):
            os.environ |= dict.fromkeys(NAMES, os.path.abspath(folder))
            tempfile.tempdir = os.path.abspath(folder)
            return f"{', '.join(lacking)}: no room for temporary files, or no such folder; {folder} is used instead."
    raise UserError(
        f"{', '.join((*wanted, *usual))}, {own}: none has room for a temporary file of {ROOM:,} bytes; make room there, or set "
        "TMPDIR to a folder that has some"
    )
