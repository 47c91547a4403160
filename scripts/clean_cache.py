"""Remove the caches that runs share: pixels, activations, weights, manifests, the demo's images. Results stay."""

import shutil
from pathlib import Path

from eightfold.core.runtime import job, log

with job(snakemake):
    cache = Path(snakemake.params.settings["cache"])
    for entry in sorted(cache.iterdir()) if cache.is_dir() else []:
        size = sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
        shutil.rmtree(entry)
        log.info("%s: %.1f MB freed", entry, size / 1e6)
