"""Whether the job can be judged as it is asked to be, before hours of training: its metric, its classes in the folds."""

from pathlib import Path

from eightfold import folds, manifest, metrics
from eightfold.files import write_json
from eightfold.runtime import job

with job(snakemake.log[0], snakemake.threads):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = manifest.read_manifest(Path(given.manifest).parent)
    metrics.check_fit(settings["metric"], info["task"], info["classes"])
    folds.check_learned(folds.read_folds(given.folds), table, info, settings["folds"])
    write_json(snakemake.output.checked, {"metric": settings["metric"], "task": info["task"]})
