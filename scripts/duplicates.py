"""Pictures that are there twice, by bytes and to the eye: duplicates.csv and its summary."""

from pathlib import Path

import numpy as np

from eightfold import duplicates, manifest
from eightfold.files import write_json, write_table
from eightfold.pixels import Pixels
from eightfold.runtime import job, log, progress

with job(snakemake.log[0], snakemake.threads):
    table, _ = manifest.read_manifest(Path(snakemake.input.manifest).parent)
    pixels = Pixels(Path(snakemake.input.pixels).parent)
    small = np.zeros((len(table), duplicates.SIDE, duplicates.SIDE), np.uint8)
    for row in progress(np.flatnonzero((table["status"] == "ok").to_numpy()), len(table), "thumbnails"):
        small[row] = duplicates.thumbnail(pixels[row])
    pairs = duplicates.find(table, small, snakemake.params.settings["distance"])
    counts = duplicates.summary(pairs)
    log.info(
        "pairs: %(identical)d identical, %(near)d near; %(conflict)d with other labels, %(leak)d across splits", counts
    )
    write_table(snakemake.output.pairs, pairs)
    write_json(snakemake.output.told, counts)
