"""What each competition's rules ask of a submission, written from its public pages and with the standard library alone.

Independent of the code that writes submissions: `faults` re-reads the file as a grader would.
"""

import csv
import math
from collections.abc import Callable
from pathlib import Path

BREEDS = ["affenpinscher", "black-and-tan_coonhound", "dingo"]
LEAVES = ["healthy", "multiple_diseases", "rust", "scab"]
FINDINGS = [
    "ETT - Abnormal",
    "ETT - Borderline",
    "ETT - Normal",
    "NGT - Abnormal",
    "NGT - Borderline",
    "NGT - Incompletely Imaged",
    "NGT - Normal",
    "CVC - Abnormal",
    "CVC - Borderline",
    "CVC - Normal",
    "Swan Ganz Catheter Present",
]


def chance(cell: str) -> bool:
    return cell.replace(".", "", 1).isdecimal() and 0 <= float(cell) <= 1  # no exponent, no nan, no inf


def one_of(*allowed: str) -> Callable[[str], bool]:
    return lambda cell: cell in allowed


def names(most: int, known: Callable[[str], bool], separator: str = " ") -> Callable[[str], bool]:
    """A cell of 1 to ``most`` different names with one ``separator`` between them."""

    def check(cell: str) -> bool:
        parts = cell.split(separator)
        return 1 <= len(parts) <= most and len(set(parts)) == len(parts) and all(map(known, parts))

    return check


# example -> (columns, what a cell must be, whether the cells of a row are the chances of classes that exclude one another)
RULES = {
    "dogs_vs_cats": (["id", "cats", "dogs"], chance, True),
    "dogs_vs_cats_redux": (["id", "label"], chance, False),
    "dog_breeds": (["id", *BREEDS], chance, True),
    "planet": (
        ["image_name", "tags"],
        names(5, one_of("agriculture", "clear", "haze", "primary", "water")),
        False,
    ),
    "satellite": (["id", "annual crop", "forest", "river"], chance, True),
    "plant_pathology_2020": (["image_id", *LEAVES], chance, True),
    "aptos2019": (["id_code", "diagnosis"], one_of(*"01234"), False),
    "cassava": (["image_id", "label"], one_of(*"01234"), False),
    "histopathologic": (["id", "label"], chance, False),
    "aerial_cactus": (["id", "has_cactus"], chance, False),
    "whale": (["Image", "Id"], names(5, lambda name: name == "new_whale" or name.startswith("w_")), False),
    "ranzcr": (["StudyInstanceUID", *FINDINGS], chance, False),
    "iceberg": (["id", "is_iceberg"], chance, False),
    "inaturalist2019": (["id", "predicted"], names(5, one_of("0", "3", "57", "400", "1009", "77")), False),
}
# competitions whose files want an optional package, and that have no example
EXTRA = {"cdiscount": (["_id", "category_id"], one_of("1000010653", "1000010660", "1000010667"), False)}


def rule_of(kind: str, classes: list[str], columns: tuple[str, str], several: bool, separator: str, k: int) -> tuple:
    """The rule of a competition that asks for a format, as in RULES. columns: of the ids and of a one-column answer."""
    whole = "\0"  # is in no class: a cell of a single-label answer is one name, spaces and all
    return {
        "probabilities": ([columns[0], *classes], chance, not several),
        "positive": ([*columns], chance, False),
        "label": ([*columns], names(1, one_of(*classes), whole), False),
        "index": ([*columns], one_of(*map(str, range(len(classes)))), False),
        "tags": ([*columns], names(len(classes), one_of(*classes), separator), False),
        "top_k": (
            [*columns],
            lambda cell: len(cell.split(separator)) == k and names(k, one_of(*classes), separator)(cell),
            False,
        ),
        "zero_one": ([columns[0], *classes], one_of("0", "1"), not several),
    }[kind]


def faults(example: str, path: Path, ids: list[str]) -> list[str]:
    """What a grader would refuse in a submission of an example, or find worthless; empty when nothing."""
    return faults_by((RULES | EXTRA)[example], path, ids)


def faults_by(rule: tuple, path: Path, ids: list[str]) -> list[str]:
    """Likewise, by a rule: columns, what a cell must be, whether the cells of a row sum to one."""
    head, cell_is_right, sums_to_one = rule
    raw = Path(path).read_bytes()
    result = (
        []
        if raw.endswith(b"\n") and b"\r" not in raw and raw[:1] != b"\xef"
        else ["ends of lines, or a mark at the start"]
    )
    first, *rows = list(csv.reader(raw.decode("utf-8").splitlines(), strict=True))
    if first != head:
        result.append(f"columns {first}, not {head}")
    if sorted(row[0] for row in rows) != sorted(ids):
        result.append(f"ids {[row[0] for row in rows]}, not {ids}")
    for row in rows:
        wrong = [cell for cell in row[1:] if not cell_is_right(cell)]
        if len(row) != len(head) or wrong:
            result.append(f"row {row}")
        elif sums_to_one and not math.isclose(sum(map(float, row[1:])), 1, abs_tol=1e-6):
            result.append(f"row {row[0]} sums to {sum(map(float, row[1:]))}")
    return result
