"""Whether a submission can be written as it is asked for, before hours of training: its format, its columns, its ids."""

from pathlib import Path

from eightfold.core.files import write_json
from eightfold.core.runtime import job
from eightfold.inputs import dataset
from eightfold.predict import submission

with job(snakemake):
    table, info = dataset.read_manifest(Path(snakemake.input.manifest).parent)
    asked = submission.prepare(table, info, snakemake.params.settings["submission"])
    what = {"format": asked.kind, "why": asked.why, "left_out": asked.left_out, "rows": len(asked.ids)}
    write_json(snakemake.output.checked, what)
