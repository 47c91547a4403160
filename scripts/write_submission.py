"""The submission, in the sample's format where there is one; checked as written, or no file."""

from pathlib import Path

from eightfold.core.files import read_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import metrics, submission

with job(snakemake):
    given, made = snakemake.input, snakemake.output
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    tuned = read_json(given.tuning) if getattr(given, "tuning", None) else {}
    asked = submission.prepare(table, info, snakemake.params.settings["submission"], tuned)

    ids, probabilities = submission.read_predictions(given.test)
    decisions = metrics.decide(probabilities, asked.classes, not asked.single_label, tuned)
    answer = asked.tabulate(ids, probabilities, decisions)
    submission.write_checked(made.submission, answer, **asked.checks())
    log.info("%d rows: %s", len(answer), made.submission)
