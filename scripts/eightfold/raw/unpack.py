"""Archives from strangers, unpacked so that nothing leaves the folder they are for. Standard library only."""

import os
import shutil
import zipfile
import zlib
from pathlib import Path

from eightfold.core.files import UserError
from eightfold.core.listing import is_litter
from eightfold.raw.archives import parts_of, zip_refusal

CHUNK = 1 << 20
NOT_UNPACKED = (".7z", ".rar", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def _target(archive: Path, member: zipfile.ZipInfo, folder: Path) -> Path:
    """Where a member goes. Raises UserError for one that `zip_refusal` refuses."""
    if problem := zip_refusal(member):
        raise UserError(f"{archive}: member {member.filename!r} {problem}; nothing of it was kept")
    return folder.joinpath(*parts_of(member.filename))


def _is_left_behind(member: zipfile.ZipInfo) -> bool:
    """Whether a member is what a system leaves behind, as macOS does with __MACOSX beside the one folder of an archive."""
    parts = parts_of(member.filename)
    return ".." not in parts and any(map(is_litter, parts))


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> int:
    """Unpack a .zip into a new ``folder``, whole or not at all; the number of its files. Checksums are verified.

    Raises UserError for an archive that is damaged, would leave the folder, or has not enough room.
    """
    archive, folder = Path(archive), Path(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir() and not _is_left_behind(member)]
            targets = {_target(archive, member, temporary): member for member in members}
            wanted = sum(member.file_size for member in members)
            room = shutil.disk_usage(archive.parent).free
            if wanted > room:
                raise UserError(f"{archive}: needs {wanted / 1e9:.1f} GB unpacked, and {room / 1e9:.1f} GB are free")
            for target, member in targets.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                # Read by hand: never more than the member says it holds, whatever its data would expand to.
                with file.open(member) as source, open(target, "wb") as made:
                    shutil.copyfileobj(source, made, CHUNK)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.mkdir(exist_ok=True)
        temporary.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); delete it and run again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(targets)


def unpack_within(folder: str | os.PathLike) -> list[str]:
    """Unpack every .zip below ``folder`` beside itself and delete it, archives in archives too; the names of archives
    of other kinds, which are left as they are.

    train.zip becomes train/; where all that it holds lies in one folder train/ already, that level is not doubled.
    """
    folder = Path(folder)
    while found := sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".zip" and path.is_file()):
        for archive in found:
            target = archive.with_suffix("")
            if target.exists():
                raise UserError(f"{archive}: would be unpacked over {target.name}, which is there already")
            unpack(archive, target)
            inside = list(target.iterdir())
            if len(inside) == 1 and inside[0].is_dir() and inside[0].name == target.name:
                inner = target.with_name(f".{target.name}.{os.getpid()}.tmp")
                inside[0].rename(inner)
                target.rmdir()
                inner.rename(target)
            archive.unlink()
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if name.lower().endswith(NOT_UNPACKED))
