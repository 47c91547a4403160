"""The fold that holds out each labelled picture."""

from pathlib import Path

from eightfold.files import write_json, write_table
from eightfold.folds import assign, summary
from eightfold.manifest import read_manifest
from eightfold.runtime import job

with job(snakemake.log[0], snakemake.threads):
    settings = snakemake.params.settings
    table, info = read_manifest(Path(snakemake.input.identity).parent)
    folds = assign(table, info, settings["split"], settings["seed"])
    write_table(snakemake.output.folds, folds)
    write_json(snakemake.output.identity, summary(folds, info, settings["split"]))
