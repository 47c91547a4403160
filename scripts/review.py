"""Confusion matrix, sheets of telling images and tables of the final validation predictions."""

from pathlib import Path

from eightfold.core.files import read_json, write_json, write_table, write_text
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.review import held_out, label_noise, plots, review, telling_images

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    tuned, number = read_json(given.tuning), settings["per_sheet"]
    images, pixels = held_out.read(given.valid, table, info, tuned), Pixels(Path(given.pixels).parent)
    for name, shown in telling_images.chosen(images, number, settings["seed"]).items():
        write_text(getattr(made, name), telling_images.sheet_of(name, images, shown, pixels))
    places, doubts = label_noise.doubts(images, table["labels"])
    write_table(made.label_noise_table, doubts)
    write_text(made.label_noise, label_noise.sheet_of(images, places, doubts, pixels, 2 * number))
    matrix = review.confusion(images.decisions, images.targets, len(images.classes))
    plots.confusion_plot(made.confusion, matrix, images.classes)
    write_json(made.tables, review.tables(images, info["task"], tuned))
    log.info("%d validation images, %d predicted wrongly", len(images.ids), int((~images.right).sum()))
