"""The first answer: the linear stage's out-of-fold figures, its probabilities of the test images, and a page."""

from pathlib import Path

from eightfold.core.files import checked, read_json, write_json, write_table, write_text
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import answer, evaluation
from eightfold.review import quick

with job(snakemake):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    opened = evaluation.open_job(Path(given.manifest).parent, settings)
    records = [read_json(path) for path in given.stages]
    held_out = quick.read_held_out(records, given.valid, dataset.read_folds(given.folds), opened)
    files = zip(given.checkpoints, given.checkpoint_identities, strict=True)
    heads = [checked(path, read_json(identity)) for path, identity in files]
    activations = given.activations and checked(given.activations, read_json(given.activations_identity))
    test = quick.answer_test_images(opened, heads, activations)
    answer.warn_of_unreadable(test)

    record = quick.collect(opened, settings["stage"], records, held_out, test)
    by_class = []
    if final := record["final"]:
        figures = (final[name] for name in ("images", "accuracy", "log_loss"))
        log.info("%d held-out images: accuracy %.4f, log loss %.4f", *figures)
        by_class = quick.class_rows(held_out.probabilities, held_out.targets, opened.classes)
    ids = {"id": opened.table["id"].iloc[test.rows].array}
    write_table(made.test, answer.tabulate(ids, test.probabilities, opened.classes))
    write_text(made.report, quick.page(settings["run"], record, by_class, len(test.rows) > 0))
    write_json(made.metrics, record)
