"""The manifest: a row per image, each decoded once, and the list of the rejected."""

from pathlib import Path

from eightfold.core.runtime import job, progress
from eightfold.raw.manifest import build, write_manifest

with job(snakemake):
    manifest = build(snakemake.params.settings["data"], snakemake.threads, progress)
    write_manifest(Path(snakemake.output.identity).parent, manifest)
