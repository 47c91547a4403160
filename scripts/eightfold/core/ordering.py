"""The order of names that hold numbers."""

import math
import re
from collections.abc import Sequence


def natural_key(text: str) -> tuple:
    """Sort key by which 2.png comes before 10.png; the text itself decides between 01 and 1."""
    parts = re.split("([0-9]+)", text)
    parts[1::2] = map(int, parts[1::2])
    return parts, text


def is_number(name: str) -> bool:
    """Whether a name is that of a finite number."""
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def rising(names: Sequence[str]) -> list[int]:
    """Positions of the names from the lowest grade to the highest: by value where all are numbers, else naturally."""
    key = float if all(map(is_number, names)) else natural_key
    return sorted(range(len(names)), key=lambda place: key(names[place]))
