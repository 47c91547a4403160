"""Average what the folds, snapshots, views and other runs predict; tune and score it on the held-out images."""

from pathlib import Path

import numpy as np
import pandas as pd

from eightfold import ensembles, evaluation, evidence, manifest, metrics, prediction, tuning
from eightfold.files import read_json, write_json, write_table
from eightfold.runtime import job, log

with job(snakemake.log[0], snakemake.threads):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = manifest.read_manifest(Path(given.manifest).parent)
    targets, classes = manifest.targets(table, info), info["classes"]
    several, average = info["task"] == "multi", settings["ensemble"]["average"]
    positive = classes.index(settings["positive"]) if settings["positive"] in classes else len(classes) - 1
    judge = metrics.Judge(settings["metric"], info["task"], classes, positive)
    metrics.check_fit(settings["metric"], info["task"], classes, info["ordered"])
    ids, splits = table["id"], table["split"].to_numpy()

    def with_runs(own, split, rows):
        """Own members (m, n, classes), and below them the other runs that are asked for."""
        others = [
            ensembles.read_run(folder, info["digest"], classes, split, ids.iloc[rows].tolist())
            for folder in settings["runs"]
        ]
        return np.concatenate([own, *(other[None] for other in others)]) if others else own

    def write(path, rows, probabilities, **columns):
        # By position, not by name: a class may be called "id" or "label".
        named = pd.DataFrame({"id": ids.iloc[rows].array, **columns})
        write_table(path, pd.concat([named, pd.DataFrame(probabilities, columns=classes)], axis=1))

    outcome = {
        "manifest": info["digest"],
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

    held_out = [evaluation.read_answers(path, several) for path in getattr(given, "valid", [])]
    to_predict = getattr(given, "test", [])
    first = held_out or [evaluation.read_answers(path, several) for path in to_predict[:1]]
    snapshots, views = (first[0].snapshots, first[0].views) if first else (1, 1)
    runs = [Path(folder).name for folder in settings["runs"]]
    blend = ensembles.equal_blend(snapshots, views, runs, settings, average, several)
    rows, probabilities, values = np.empty(0, int), np.empty((0, len(classes))), tuning.untuned(judge.name)
    if held_out:
        rows, fold, own = evaluation.out_of_fold(held_out)
        stack, plain = with_runs(own, "valid", rows), own[::views].mean(0)
        told, blend, found = evaluation.judged(stack, plain, fold, targets[rows], blend, judge, settings)
        outcome |= told
        outcome["baseline"] = evaluation.baseline(targets, np.flatnonzero(splits != "test"), rows, fold, judge)
        values, probabilities = found.values, found.probabilities
        log.info("held-out images: %s", ", ".join(f"{k} {v:.4f}" for k, v in told["final"].items() if k != "images"))
        for step in found.steps:
            log.info(
                "%(what)s %(value)s: %(metric)s %(before).4f before, %(after).4f cross-fitted, used: %(used)s", step
            )
    write(snakemake.output.valid, rows, probabilities, label=table["labels"].iloc[rows].array)

    test = np.flatnonzero(splits == "test")
    answer = np.empty((len(test), len(classes)))
    if len(test):
        answer[:] = prediction.class_prior(targets[splits != "test"], len(classes))
        of_folds = []
        for path in to_predict:
            answered, own, *_ = evaluation.read_answers(path, several)
            of_folds.append(blend(with_runs(own, "test", answered)))
        mean = ensembles.mean_of_folds(of_folds, average, several)
        answer[np.searchsorted(test, answered)] = tuning.with_temperature(mean, values["temperature"], several)
        unread = ids.iloc[np.setdiff1d(test, answered)].tolist()
        if unread:
            log.warning("%d test images cannot be read and get the class prior: %s", len(unread), unread[:10])
        outcome["unreadable_test_images"] = unread
    write(snakemake.output.test, test, answer)
    write_json(snakemake.output.tuning, values)
    write_json(snakemake.output.metrics, outcome)
