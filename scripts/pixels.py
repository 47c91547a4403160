"""Decode and resize every image of the manifest once: the packed pixel cache."""

from pathlib import Path

from eightfold.core import shards
from eightfold.core.files import write_json
from eightfold.core.runtime import job, progress
from eightfold.inputs import dataset, pixels
from eightfold.raw import packing
from eightfold.raw.stores import Store

with job(snakemake):
    settings, made = snakemake.params.settings, snakemake.output
    manifest, folder, side = Path(snakemake.input.manifest).parent, Path(made.identity).parent, settings["short_side"]
    table, info = dataset.read_manifest(manifest)
    if parts := getattr(snakemake.input, "parts", []):
        index = pixels.join(folder, [Path(path).parent for path in parts])
    else:
        rows = shards.rows_of(table, getattr(snakemake.wildcards, "part", None))
        images = packing.read_images(Store(info["root"], info["reading"]), rows, side, snakemake.threads, manifest)
        index = pixels.pack(folder, progress(images, len(rows), f"pixels {side} px"))
    write_json(made.identity, packing.describe_pack(index, info["digest"], settings))
