"""The submission, in the sample's format where there is one; checked as written, or no file."""

from pathlib import Path

from eightfold.core.files import read_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import metrics, submission

with job(snakemake.log[0], snakemake.threads):
    settings, given, made = snakemake.params.settings["submission"], snakemake.input, snakemake.output
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    classes, separator, is_test = info["classes"], settings["separator"], table["split"] == "test"
    ids, probabilities = submission.read_predictions(given.test)
    tuned = read_json(given.tuning) if getattr(given, "tuning", None) else {}

    sample = submission.read_sample(info)
    kind, why = submission.infer_format(sample, classes, info["task"], settings["format"], separator)
    log.info("submission format: %s (%s)", kind, why)
    if kind == "positive":
        positive = submission.positive_class(sample, classes, settings["positive"])
        log.info("the probability is that of class %r", positive)

    layout = submission.lay_out(settings, tuned, sample, classes, table["labels"][~is_test])
    decisions = metrics.decide(probabilities, classes, info["task"] == "multi", tuned)
    answer = submission.tabulate(ids, probabilities, decisions, classes, kind, sample, layout)
    wanted = {"test_ids": table["id"][is_test].tolist(), "classes": classes, "sample": sample, "kind": kind}
    wanted |= {"single_label": info["task"] == "single", "separator": separator}
    submission.write_checked(made.submission, answer, **wanted)
    log.info("%d rows: %s", len(answer), made.submission)
