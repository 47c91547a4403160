"""Average what the networks, folds and other runs predict; tune and score it on the held-out images."""

from pathlib import Path

from eightfold.core.files import read_json, write_json, write_table
from eightfold.core.runtime import job, log
from eightfold.predict import answer, ensembles, evaluation, evidence, outcome

with job(snakemake):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    opened = evaluation.open_job(Path(given.manifest).parent, settings)
    blend = ensembles.read(read_json(given.chosen), settings["ensemble"]["average"], opened.multi_label)

    held_out = outcome.judge_held_out(opened, blend, getattr(given, "valid", []), settings)
    if final := held_out.figures["final"]:
        log.info("held-out images: %s", ", ".join(f"{k} {v:.4f}" for k, v in final.items() if k != "images"))
    for step in held_out.figures["tuning"]:
        log.info("%(what)s %(value)s: %(metric)s %(before).4f before, %(after).4f cross-fitted, used: %(used)s", step)

    temperature = held_out.tuned["temperature"]
    test = answer.answer_test_images(opened, blend, getattr(given, "test", []), settings, temperature)
    answer.warn_of_unreadable(test)

    ids, labels = (opened.table[name].iloc for name in ("id", "labels"))
    columns = {"id": ids[held_out.rows].array, "label": labels[held_out.rows].array}
    write_table(made.valid, answer.tabulate(columns, held_out.probabilities, opened.classes))
    write_table(made.test, answer.tabulate({"id": ids[test.rows].array}, test.probabilities, opened.classes))
    write_json(made.tuning, held_out.tuned)
    stages = [evidence.read_stage(*paths) for paths in zip(given.stages, given.stages_valid, strict=True)]
    figures = outcome.describe_stages(stages, opened)
    write_json(made.metrics, outcome.collect(opened, held_out, figures, test))
