"""What made the outputs of a job: its settings, its code and the digests of its inputs, written beside them.

Snakemake keeps that too, but in `.snakemake`, which people delete, leave behind when they copy results, or lose to a power
cut. Without it, Snakemake takes what exists for up to date. The record lies with the results and goes where they go.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from eightfold.core.files import write_json

LARGEST = 1_000_000  # bytes of an input that is compared by its content, as Snakemake's --max-checksum-file-size has it


def record_path(output: str | os.PathLike) -> Path:
    """Where the record of a job lies whose first output is ``output``: results/x/a.csv -> results/x/.made/a.csv.json."""
    output = Path(output)
    return output.with_name(".made") / f"{output.name}.json"


def checksum(path: str | os.PathLike) -> str | None:
    """The digest of a file as Snakemake writes it; None for a large file, a folder, or one that is not there."""
    try:
        if os.path.isdir(path) or os.path.getsize(path) > LARGEST:
            return None
        return f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    except OSError:
        return None


def checksums(paths: Iterable[str]) -> dict[str, str]:
    """{path: its digest} of the small ones among some files."""
    found = {path: checksum(path) for path in paths}
    return {path: value for path, value in found.items() if value is not None}


class Record:
    """The record of the job that a script does, ``snakemake`` being the object that Snakemake hands to it."""

    def __init__(self, snakemake):
        outputs = [str(path) for path in snakemake.output]
        # What a store holds, Snakemake fetches into a folder of its own; a record there would be found by nobody.
        self.path = record_path(outputs[0]) if outputs and ".snakemake" not in Path(outputs[0]).parts else None
        self._snakemake = snakemake
        self._described: dict = {}

    def begin(self) -> None:
        """Remove the record of what is now made anew, and note what it is made of."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            inputs = sorted(str(path) for path in self._snakemake.input)
            self._described = {"input": inputs, "input_checksums": checksums(inputs)}

    def write(self) -> None:
        """Write what made the outputs, now that they are whole: equal jobs write equal bytes."""
        if self.path is not None:
            params = sorted(repr(value) for value in self._snakemake.params)
            write_json(self.path, {"rule": getattr(self._snakemake, "rule", None), "params": params, **self._described})
