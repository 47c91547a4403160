"""Average what the folds, snapshots, views and other runs predict; tune and score it on the held-out images."""

from pathlib import Path

import numpy as np
import pandas as pd

from eightfold import ensembles, manifest, metrics, prediction, tensors, tuning
from eightfold.files import checked, read_json, write_json, write_table
from eightfold.runtime import job, log

with job(snakemake.log[0], snakemake.threads):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = manifest.read_manifest(Path(given.manifest).parent)
    targets, classes = manifest.targets(table, info), info["classes"]
    several, ensemble = info["task"] == "multi", settings["ensemble"]
    positive = classes.index(settings["positive"]) if settings["positive"] in classes else len(classes) - 1
    judge = metrics.Judge(settings["metric"], info["task"], classes, positive)
    metrics.check_fit(settings["metric"], info["task"], classes, info["ordered"])
    ids, splits = table["id"], table["split"].to_numpy()

    def read(path):
        """(rows (n,), probabilities (snapshots * views, n, classes), snapshots, views) of a fold's predictions."""
        found = tensors.load(checked(path, read_json(Path(path).with_suffix(".json"))))
        logits = found["logits"].numpy()  # (snapshots, views, n, classes)
        chances = metrics.sigmoid(logits) if several else metrics.softmax(logits)
        return found["rows"].numpy(), chances.reshape(-1, *logits.shape[2:]), *logits.shape[:2]

    def with_runs(own, split, rows):
        """Own members (m, n, classes), and below them the other runs that are asked for."""
        others = [
            ensembles.read_run(folder, info["digest"], classes, split, ids.iloc[rows].tolist())
            for folder in settings["runs"]
        ]
        return np.concatenate([own, *(other[None] for other in others)]) if others else own

    def blended(stack, weights):
        return ensembles.blend(stack, members, weights, *kinds, several)

    def figures(probabilities):
        return {
            judge.name: judge(probabilities, targets[rows]),
            "log_loss": metrics.log_loss(probabilities, targets[rows]),
        }

    def scored(found, rows):
        """`metrics.summary`, the figure of decisions being that of the honest ones."""
        result = metrics.summary(found.probabilities, targets[rows], judge)
        if found.decisions is not None:
            result[judge.name] = judge.of_decisions(found.decisions, targets[rows])
        return result

    def write(path, rows, probabilities, **columns):
        # By position, not by name: a class may be called "id" or "label".
        named = pd.DataFrame({"id": ids.iloc[rows].array, **columns})
        write_table(path, pd.concat([named, pd.DataFrame(probabilities, columns=classes)], axis=1))

    outcome = {"manifest": info["digest"], "metric": judge.name, "stages": [], "final": {}, "no_tta": {}, "folds": []}
    outcome |= {"untuned": {}, "tuning": [], "ensemble": {"weights": ensemble["weights"], "members": []}}
    for path, predicted in zip(given.stages, given.stages_valid, strict=True):
        told = read_json(path)
        found = tensors.load(predicted, told.get("made_from"))
        of_stage = told["metrics"]
        if len(found["rows"]):
            chances = metrics.sigmoid(found["logits"].numpy()) if several else metrics.softmax(found["logits"].numpy())
            of_stage = metrics.summary(chances, targets[found["rows"].numpy()], judge)
        kept = {key: told[key] for key in ("stage", "fold", "train_loss", "lr", "epochs")}
        outcome["stages"].append(kept | of_stage)

    # Each held-out row is predicted by the one fold that did not train on it.
    held_out = [read(path) for path in getattr(given, "valid", [])]
    to_predict = getattr(given, "test", [])
    snapshots, views = held_out[0][2:] if held_out else read(to_predict[0])[2:] if len(to_predict) else (1, 1)
    runs = [Path(folder).name for folder in settings["runs"]]
    members = ensembles.members_of(snapshots, views, runs)
    weights = ensembles.equal_weights(snapshots, views, len(runs), settings["weights"])
    kinds = (settings["average"], ensemble["average"])
    rows, probabilities, values = np.empty(0, int), np.empty((0, len(classes))), tuning.untuned(judge.name)
    if held_out:
        rows = np.concatenate([found[0] for found in held_out])
        fold = np.repeat(np.arange(len(held_out)), [len(found[0]) for found in held_out])
        order = np.argsort(rows, kind="stable")
        rows, fold = rows[order], fold[order]
        own = np.concatenate([found[1] for found in held_out], 1)[:, order]
        stack, parts = with_runs(own, "valid", rows), tuning.parts_of(fold, settings["seed"])
        probabilities = blended(stack, weights)
        if ensemble["weights"] == "greedy":
            members = [member._replace(network=member.name) for member in members]  # each for itself
            by_metric = judge.metric.judges == "probabilities" and judge.name != "accuracy"  # which is a staircase

            def loss(chances, truth):
                figure = judge(chances, truth) if by_metric else metrics.log_loss(chances, truth)
                return -figure if by_metric and judge.metric.greater_is_better else figure

            def select(by_row, truth):
                return ensembles.greedy(
                    by_row.swapaxes(0, 1), lambda chances: loss(chances, truth), ensemble["average"], several
                )

            def apply(chosen, by_row, _):
                return blended(by_row.swapaxes(0, 1), chosen)

            kinds, by_row = (ensemble["average"],) * 2, stack.swapaxes(0, 1)
            equal, weights = probabilities, select(by_row, targets[rows])
            probabilities = tuning.cross_fitted(select, apply, parts, by_row, targets[rows])
            outcome["ensemble"] |= {"equal": figures(equal), "greedy": figures(probabilities)}
        outcome["ensemble"]["members"] = ensembles.contributions(stack, members, weights, blended, figures)
        outcome["ensemble"]["all"] = figures(blended(stack, weights))
        found = tuning.tune(probabilities, targets[rows], parts, judge, settings["tuning"])
        plain = tuning.tune(own[::views].mean(0), targets[rows], parts, judge, settings["tuning"])
        outcome["untuned"] = metrics.summary(probabilities, targets[rows], judge)
        outcome["tuning"], values, probabilities = found.steps, found.values, found.probabilities
        outcome["final"], outcome["no_tta"] = scored(found, rows), scored(plain, rows)
        for number in range(len(held_out)):
            inside = fold == number
            chosen = None if found.decisions is None else found.decisions[inside]
            part = found._replace(probabilities=probabilities[inside], decisions=chosen)
            outcome["folds"].append(scored(part, rows[inside]))
        log.info("held-out images: %s", ", ".join(f"{k} {v:.4f}" for k, v in outcome["final"].items() if k != "images"))
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
            answered, own, *_ = read(path)
            of_folds.append(blended(with_runs(own, "test", answered), weights))
        mean = prediction.mean_members(
            np.stack(of_folds), np.full(len(of_folds), 1 / len(of_folds)), ensemble["average"], not several
        )
        answer[np.searchsorted(test, answered)] = tuning.with_temperature(mean, values["temperature"], several)
        unread = ids.iloc[np.setdiff1d(test, answered)].tolist()
        if unread:
            log.warning("%d test images cannot be read and get the class prior: %s", len(unread), unread[:10])
        outcome["unreadable_test_images"] = unread
    write(snakemake.output.test, test, answer)
    write_json(snakemake.output.tuning, values)
    write_json(snakemake.output.metrics, outcome)
