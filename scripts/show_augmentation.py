"""A few labelled images as they are and as training sees them."""

from pathlib import Path

from eightfold.core.files import write_text
from eightfold.core.runtime import job
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.review import augmented

with job(snakemake):
    settings = snakemake.params.settings
    table, _ = dataset.read_manifest(Path(snakemake.input.manifest).parent)
    rows = augmented.rows_to_show(table, settings["images"], settings["seed"])
    source = augmented.source_of(Pixels(Path(snakemake.input.pixels).parent), settings)
    ids, preset = table["id"][rows].tolist(), settings["augmentation"]["preset"]
    write_text(snakemake.output.sheet, augmented.sheet_of(source, rows, ids, settings["views"], preset))
