"""The submission, in the sample's format where there is one; checked as written, or no file."""

from pathlib import Path

import pandas as pd

from eightfold import manifest, submission
from eightfold.runtime import job, log

with job(snakemake.log[0], snakemake.threads):
    settings = snakemake.params.settings["submission"]
    table, info = manifest.read_manifest(Path(snakemake.input.manifest).parent)
    test_ids = table["id"][table["split"] == "test"].tolist()
    classes = info["classes"]
    predicted = pd.read_csv(snakemake.input.test, dtype={"id": str}, keep_default_na=False)
    sample = None
    if info["sample_submission"]:
        sample = submission.read_ids(info["sample_submission"])
    kind, why = submission.infer_format(sample, classes, info["task"], settings["format"])
    log.info("submission format: %s (%s)", kind, why)
    answer = submission.table(
        predicted.iloc[:, 0].tolist(),
        predicted.iloc[:, 1:].to_numpy(float),
        classes,
        kind,
        sample,
        settings["positive"],
        settings["clip"],
        info["separator"] or " ",
    )
    submission.write_checked(
        snakemake.output.submission,
        answer,
        test_ids=test_ids,
        kind=kind,
        single_label=info["task"] == "single",
        classes=classes,
        sample=sample,
    )
    log.info("%d rows: %s", len(answer), snakemake.output.submission)
