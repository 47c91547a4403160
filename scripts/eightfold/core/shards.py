"""Parts of a large piece of work: which rows each part does. Must not import torch: the plan imports it.

Borders lie at multiples of a batch, so that a part's batches are those of the whole; a row's result depends on no other
row's, and the parts laid end to end are the bytes that one job would have written.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

from eightfold.core.files import UserError, read_json

BATCH = 64  # rows; what the network is run on at a time
FILES_A_PART = 50_000  # of `auto`: minutes of one GPU, well above the half minute that a cluster's job costs by itself
MOST = 1000

Rows = TypeVar("Rows", bound=Sequence)


def borders(rows: int, part: int, parts: int) -> tuple[int, int]:
    """First row of part ``part`` (from 1) of ``parts``, and the first after it. Parts differ by one batch at most."""
    batches = -(-rows // BATCH)
    first, last = (batches * k // parts * BATCH for k in (part - 1, part))
    return min(first, rows), min(last, rows)


def rows_of(rows: Rows, name: str | None) -> Rows:
    """The rows of a part that is named as in its path, "2_of_8"; all of them for None."""
    if name is None:
        return rows
    first, last = borders(len(rows), *map(int, name.split("_of_")))
    return rows[first:last]


def names(parts: int) -> list[str]:
    """The parts by name; none where the work is not divided."""
    return [f"{part}_of_{parts}" for part in range(1, parts + 1)] if parts > 1 else []


def one_format(identities: Sequence[str]) -> str:
    """The number format that all parts were computed in, by the small files that lie beside them. Raises UserError for unlike
    parts: `auto` takes what each node is fast at."""
    found: dict[str, list[str]] = {}
    for path in identities:
        found.setdefault(read_json(path)["precision"], []).append(path)
    if len(found) > 1:
        parts = "; ".join(f"{name}: {len(paths)} ({paths[0]}, ...)" for name, paths in sorted(found.items()))
        raise UserError(
            f"{os.path.dirname(identities[0])}: the nodes computed its parts in unlike number formats ({parts}). Set "
            "`device: {precision: float32}`, which every node can do, and run again"
        )
    return next(iter(found))


def parts_for(files: int) -> int:
    """How many parts `auto` makes of the work on so many files."""
    return max(1, min(MOST, round(files / FILES_A_PART)))
