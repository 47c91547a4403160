"""What is wrong with a member of an archive from a stranger: it leaves its folder, is a link, encrypted, or a bomb.

Said once for archives that are read where they lie (stores.py) and those that are unpacked (unpack.py). Standard library only.
"""

import re
import stat
import zipfile

MAX_RATIO, SMALL = 200, 2**26  # a member above SMALL bytes that packs better than this is a bomb and no image


def parts_of(name: str) -> list[str]:
    """The folders and the name on the way to a member, whichever slash the archive writes."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def refusal(name: str, special: bool, locked: bool) -> str:
    """Why a member must not be touched, in words that follow its name; empty when nothing is wrong with it.

    special: whether it is a link or a device. locked: whether it is encrypted.
    """
    parts = parts_of(name)
    if not parts or ".." in parts or name[0] in "/\\" or "\0" in name or re.match("[A-Za-z]:", parts[0]):
        return "would leave its folder"
    if special:
        return "is a link or a device"
    return "is encrypted (unpack the archive by hand)" if locked else ""


def zip_refusal(member: zipfile.ZipInfo) -> str:
    """`refusal` of a member of a zip archive."""
    special = stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)
    return refusal(member.filename, special, bool(member.flag_bits & 1))


def bomb(size: int, packed: int, limit: int) -> str:
    """Why a member of ``packed`` bytes must not be unpacked to ``size`` bytes in memory, or empty. limit: bytes at most."""
    if size > limit or (size > SMALL and size / max(packed, 1) > MAX_RATIO):
        return f"is a zip bomb: {packed:,} bytes that unpack to {size:,}"
    return ""
