"""Names of classes that a person may not have meant as classes: two spellings of one, and words for a missing label."""

import logging
import unicodedata
from collections.abc import Mapping
from decimal import Decimal

from eightfold.core.ordering import is_number
from eightfold.core.wording import listed

log = logging.getLogger("eightfold")

MISSING = {"nan", "na", "n/a", "#n/a", "<na>", "none", "null"}  # a label that other programs write where there is none


def meaning(name: str) -> str | Decimal:
    """What is left of a name without its case, its form of Unicode (NFKC) and its spaces; of a number, its value."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    plain = unicodedata.normalize("NFKC", plain)
    return Decimal(plain) if is_number(plain) else plain


def alike(names: Mapping[str, int]) -> list[list[str]]:
    """The groups of two or more names that mean one thing, in the order of ``names``."""
    groups: dict[str | Decimal, list[str]] = {}
    for name in names:
        groups.setdefault(meaning(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def warn_of_names(counts: Mapping[str, int]) -> None:
    """Log the classes that may be one, and those that may be none. ``counts``: labelled images of each class."""
    groups = alike(counts)
    if groups:
        log.warning(
            "Warning: %d groups of classes differ only in case, spaces, the form of Unicode or the way a number is written. "
            "Each stays a class; where one is meant, correct the labels (data.labels, or the names below data.train):%s",
            len(groups),
            listed([_counted(group, counts) for group in groups]),
        )
    missing = [name for name in counts if meaning(name) in MISSING]
    if missing:
        log.warning(
            "Warning: %d classes are called as a missing label is. They stay classes; where they are none, remove these images "
            "from the labels (data.labels, or data.train):%s",
            len(missing),
            listed([_counted([name], counts) for name in missing]),
        )


def _counted(names: list[str], counts: Mapping[str, int]) -> str:
    """The names with their counts, in ASCII: two forms of one letter look the same."""
    return ", ".join(f"{name!a} ({counts[name]} images)" for name in names)
