"""The submission compressed: the same bytes every time."""

import gzip
from pathlib import Path

from eightfold.core.files import replacing
from eightfold.core.runtime import job

with job(snakemake), replacing(snakemake.output.packed) as file:
    file.write_bytes(gzip.compress(Path(snakemake.input.submission).read_bytes(), mtime=0))
