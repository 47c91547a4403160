"""Send the submission to Kaggle, wait for its score, and record it. A file that a grader would refuse is not sent."""

from pathlib import Path

from eightfold.core.files import UserError, write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import submission
from eightfold.raw import kaggle_client

with job(snakemake.log[0], snakemake.threads):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    sample, separator = submission.read_sample(info), settings["separator"]
    kind, _ = submission.infer_format(sample, info["classes"], info["task"], settings["format"], separator)
    wrong = submission.problems(
        given.submission,
        test_ids=table["id"][table["split"] == "test"].tolist(),
        kind=kind,
        single_label=info["task"] == "single",
        classes=info["classes"],
        sample=sample,
        separator=separator,
    )
    if wrong:
        raise UserError(f"{given.submission}: not sent, since a grader would refuse it: {'; '.join(wrong)}")
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
