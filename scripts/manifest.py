"""The manifest: a row per image, each decoded once, and the list of the rejected."""

from pathlib import Path

from eightfold.core.contents import write_index
from eightfold.core.listing import data_files
from eightfold.core.runtime import job, progress
from eightfold.raw.manifest import build, write_manifest

with job(snakemake):
    data, folder = snakemake.params.settings["data"], Path(snakemake.output.identity).parent
    entries = data_files(data)  # as they are before any is read
    manifest = build(data, snakemake.threads, progress)
    read = dict(zip(manifest.table["path"], manifest.table["sha256"], strict=True))
    write_index(folder / ".made" / "contents", data["root"], entries, read, progress)
    write_manifest(folder, manifest)
