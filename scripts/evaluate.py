"""Average what the folds, snapshots and views predict; score it on the held-out images."""

from pathlib import Path

import numpy as np
import pandas as pd

from eightfold import manifest, metrics, prediction, tensors
from eightfold.files import checked, read_json, write_json, write_table
from eightfold.runtime import job, log

with job(snakemake.log[0], snakemake.threads):
    given, settings = snakemake.input, snakemake.params.settings
    table, info = manifest.read_manifest(Path(given.manifest).parent)
    targets, classes = manifest.targets(table, info), info["classes"]
    single = info["task"] == "single"

    def read(path):
        found = tensors.load(checked(path, read_json(Path(path).with_suffix(".json"))))
        return found["rows"].numpy(), found["logits"].numpy()  # (rows,), (members, views, rows, classes)

    def averaged(logits):
        members = [
            prediction.combine(of_member, single, settings["average"], settings["weights"]) for of_member in logits
        ]
        return np.mean(members, 0)

    def write(path, rows, probabilities, **columns):
        # By position, not by name: a class may be called "id" or "label".
        named = pd.DataFrame({"id": table["id"].iloc[rows].array, **columns})
        of_classes = pd.DataFrame(probabilities, columns=classes)
        write_table(path, pd.concat([named, of_classes], axis=1))

    # Each held-out row is predicted by the one fold that did not train on it.
    outcome = {"stages": [], "final": {}, "no_tta": {}, "folds": []}
    for path in given.stages:
        told = read_json(path)
        outcome["stages"].append(
            {k: told[k] for k in ("stage", "fold", "train_loss", "lr", "epochs")} | told["metrics"]
        )
    held_out = [read(path) for path in getattr(given, "valid", [])]
    rows = np.concatenate([rows for rows, _ in held_out]) if held_out else np.empty(0, int)
    probabilities = np.empty((0, len(classes)))
    if len(rows):
        probabilities = np.concatenate([averaged(logits) for _, logits in held_out])
        plain = np.concatenate([averaged(logits[:, :1]) for _, logits in held_out])
        outcome["final"] = metrics.summary(probabilities, targets[rows])
        outcome["no_tta"] = metrics.summary(plain, targets[rows])
        outcome["folds"] = [metrics.summary(averaged(logits), targets[rows]) for rows, logits in held_out]
        log.info(
            "held-out images: accuracy %.4f, log loss %.4f", outcome["final"]["accuracy"], outcome["final"]["log_loss"]
        )
    order = np.argsort(rows, kind="stable")
    write(snakemake.output.valid, rows[order], probabilities[order], label=table["labels"].iloc[rows[order]].array)

    test = table.index[table["split"] == "test"].to_numpy()
    answer = np.empty((len(test), len(classes)))
    if len(test):
        labelled = table.index[table["split"] != "test"].to_numpy()
        answer[:] = prediction.class_prior(targets[labelled], len(classes))
        folds = [read(path) for path in given.test]
        answer[np.searchsorted(test, folds[0][0])] = np.mean([averaged(logits) for _, logits in folds], 0)
        unread = table["id"].iloc[np.setdiff1d(test, folds[0][0])].tolist()
        if unread:
            log.warning("%d test images cannot be read and get the class prior: %s", len(unread), unread[:10])
        outcome["unreadable_test_images"] = unread
    write(snakemake.output.test, test, answer)
    write_json(snakemake.output.metrics, outcome)
