"""Which network: a linear layer on the activations of each, judged out of fold; a table, lines for a terminal, and a page."""

from pathlib import Path

from eightfold.core.files import write_table, write_text
from eightfold.core.runtime import job, log
from eightfold.predict import evaluation
from eightfold.review import trunk_race, trunk_race_files

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    opened = evaluation.open_job(Path(given.manifest).parent, settings)
    racers, losses = trunk_race_files.read_racers(given, settings, opened)
    rows, images = trunk_race.table(racers, losses), losses.shape[1]
    report = trunk_race.text(rows, images, settings["size"])
    log.info("%s", report)
    write_table(made.table, rows)
    write_text(made.text, report)
    write_text(made.page, trunk_race.page(settings["run"], rows, images, settings["size"]))
