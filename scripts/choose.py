"""Choose which networks answer, and with which weights, on the held-out images."""

from pathlib import Path

from eightfold.core.files import digest, write_json
from eightfold.core.runtime import job, log
from eightfold.predict import ensembles, evaluation

with job(snakemake):
    given, settings = snakemake.input, snakemake.params.settings
    opened = evaluation.open_job(Path(given.manifest).parent, settings)
    blend = evaluation.equal_blend(settings, opened.multi_label)
    if settings["ensemble"]["weights"] == "greedy":
        held_out = [
            evaluation.read_answers(path, blend.members, settings["tta"], opened.multi_label) for path in given.valid
        ]
        rows, _, own = evaluation.out_of_fold(held_out)
        stack = evaluation.with_runs(own, settings["runs"], opened, "valid", rows)
        blend = evaluation.greedy_blend(stack, opened.targets[rows], blend, opened.judge)
    members = ensembles.written(blend)
    for row in members:
        if row["weight"] > 0:
            log.info("%s answers with weight %.3f", row["member"], row["weight"])
    write_json(snakemake.output.chosen, {"digest": digest(members), "members": members})
