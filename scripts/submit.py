"""Send the submission to Kaggle, wait for its score, and record it. A file that a grader would refuse is not sent."""

from pathlib import Path

from eightfold.core.files import write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import submission
from eightfold.raw import kaggle_client

with job(snakemake):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    submission.check_written(given.submission, table, info, settings["submission"])
    result = kaggle_client.submit(
        settings["competition"],
        given.submission,
        settings["run"],
        settings["poll_s"],
        settings["wait_s"],
        lambda text: log.info("%s", text),
    )
    write_json(snakemake.output.submitted, result)
    log.info("public score %s: %s", result["public_score"], snakemake.output.submitted)
