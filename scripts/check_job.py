"""Whether the job can be done as it is asked to be, before hours of training: its metric, its classes in the folds, its sizes."""

from pathlib import Path

from eightfold.core.files import UserError, write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.net import trunks
from eightfold.predict import metrics
from eightfold.raw import folds

with job(snakemake):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    metrics.check_fit(settings["metric"], info["task"], info["classes"], info["ordered"])
    try:
        folds.check_learned(dataset.read_folds(given.folds), table, info, settings["folds"])
    except UserError as error:
        if settings["method"] != "fastai07":  # which does not look at classes, and is asked for where some are rare
            raise
        log.warning("Warning: %s", error)
    trunks.check_sizes(settings["arch"], settings["sizes"])
    write_json(snakemake.output.checked, {"metric": settings["metric"], "task": info["task"]})
