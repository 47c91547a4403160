"""A first look at the data: images per class, their sizes, a sheet of samples."""

from pathlib import Path

from eightfold.core.runtime import job
from eightfold.inputs.dataset import read_manifest
from eightfold.review import explore

with job(snakemake):
    table, info = read_manifest(Path(snakemake.input.manifest).parent)
    explore.plot_classes(snakemake.output.classes, explore.class_counts(table, info))
    explore.plot_sizes(snakemake.output.sizes, table)
    explore.write_sample(snakemake.output.sample, table, info, snakemake.params.settings["seed"])
