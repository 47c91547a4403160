"""Average what the networks, folds and other runs predict; tune and score it on the held-out images."""

from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.files import read_json, write_json, write_table
from eightfold.core.runtime import job, log
from eightfold.predict import ensembles, evaluation, evidence, prediction, tuning

with job(snakemake.log[0], snakemake.threads):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    opened = evaluation.open_job(Path(given.manifest).parent, settings)
    table, targets, classes, judge = opened.table, opened.targets, opened.classes, opened.judge
    average, tta = settings["ensemble"]["average"], settings["tta"]
    ids, splits = table["id"], table["split"].to_numpy()
    blend = ensembles.read(read_json(given.chosen), average, opened.multi_label)

    def answers(path, members):
        return evaluation.read_answers(path, members, tta, opened.multi_label)

    def write(path, rows, probabilities, **columns):
        # By position, not by name: a class may be called "id" or "label".
        named = pd.DataFrame({"id": ids.iloc[rows].array, **columns})
        write_table(path, pd.concat([named, pd.DataFrame(probabilities, columns=classes)], axis=1))

    outcome = {
        "manifest": opened.digest,
        "metric": judge.name,
        "final": {},
        "no_tta": {},
        "folds": [],
        "untuned": {},
        "tuning": [],
        "ensemble": {"weights": settings["ensemble"]["weights"], "members": []},
        "stages": [
            evaluation.of_stage(read_json(path), predicted, targets, judge)
            for path, predicted in zip(given.stages, given.stages_valid, strict=True)
        ],
        "by_stage": evidence.of_run(map(evidence.read_stage, given.stages, given.stages_valid), targets, judge),
    }

    rows, probabilities, values = np.empty(0, int), np.empty((0, len(classes))), tuning.untuned(judge.name)
    if held_out := [answers(path, blend.members) for path in getattr(given, "valid", [])]:
        rows, fold, own = evaluation.out_of_fold(held_out)
        stack = evaluation.with_runs(own, settings["runs"], opened, "valid", rows)
        equal = evaluation.equal_blend(settings, opened.multi_label)
        figures, found = evaluation.judged(stack, fold, targets[rows], equal, blend, judge, settings)
        outcome |= figures
        outcome["baseline"] = evaluation.baseline(targets, np.flatnonzero(splits != "test"), rows, fold, judge)
        values, probabilities = found.values, found.probabilities
        log.info("held-out images: %s", ", ".join(f"{k} {v:.4f}" for k, v in figures["final"].items() if k != "images"))
        for step in found.steps:
            log.info(
                "%(what)s %(value)s: %(metric)s %(before).4f before, %(after).4f cross-fitted, used: %(used)s", step
            )
    write(made.valid, rows, probabilities, label=table["labels"].iloc[rows].array)

    test = np.flatnonzero(splits == "test")
    answer = np.empty((len(test), len(classes)))
    if len(test):
        answer[:] = prediction.class_prior(targets[splits != "test"], len(classes))
        used, of_folds = blend.used(), []
        runs = [folder for folder in settings["runs"] if Path(folder).name in {m.network for m in used.members}]
        for path in getattr(given, "test", []):
            answered, own = answers(path, used.members)
            of_folds.append(used(evaluation.with_runs(own, runs, opened, "test", answered)))
        mean = ensembles.mean_of_folds(of_folds, average, opened.multi_label)
        answer[np.searchsorted(test, answered)] = tuning.with_temperature(
            mean, values["temperature"], opened.multi_label
        )
        unread = ids.iloc[np.setdiff1d(test, answered)].tolist()
        if unread:
            log.warning("%d test images cannot be read and get the class prior: %s", len(unread), unread[:10])
        outcome["unreadable_test_images"] = unread
    write(made.test, test, answer)
    write_json(made.tuning, values)
    write_json(made.metrics, outcome)
