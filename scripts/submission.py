"""The submission, in the sample's format where there is one; checked as written, or no file."""

from pathlib import Path

import pandas as pd

from eightfold.core.files import read_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import metrics, submission

with job(snakemake.log[0], snakemake.threads):
    settings, given = snakemake.params.settings["submission"], snakemake.input
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    test_ids = table["id"][table["split"] == "test"].tolist()
    classes, separator = info["classes"], settings["separator"]
    predicted = pd.read_csv(given.test, dtype={"id": str}, keep_default_na=False)
    probabilities = predicted.iloc[:, 1:].to_numpy(float)
    tuned = read_json(given.tuning) if getattr(given, "tuning", None) else {}
    sample = submission.read_sample(info)
    kind, why = submission.infer_format(sample, classes, info["task"], settings["format"], separator)
    log.info("submission format: %s (%s)", kind, why)
    if kind == "positive":
        log.info(
            "the probability is that of class %r", submission.positive_class(sample, classes, settings["positive"])
        )
    layout = submission.Layout(
        settings["positive"],
        settings["clip"] or tuned.get("clip", 0),
        separator,
        settings["id_column"],
        settings["label_column"],
        submission.answers_per_row(sample, classes, settings["top_k"], separator),
        never_empty=bool((table["labels"][table["split"] != "test"] != "").all()),
    )
    decisions = metrics.decide(probabilities, classes, info["task"] == "multi", tuned)
    ids = predicted.iloc[:, 0].tolist()
    answer = submission.table(ids, probabilities, classes, kind, sample, layout, decisions)
    submission.write_checked(
        snakemake.output.submission,
        answer,
        settings["gzip"] and f"{snakemake.output.submission}.gz",
        test_ids=test_ids,
        kind=kind,
        single_label=info["task"] == "single",
        classes=classes,
        sample=sample,
        separator=separator,
    )
    log.info("%d rows: %s", len(answer), snakemake.output.submission)
