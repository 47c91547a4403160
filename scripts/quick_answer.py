"""The first answer: the linear stage's out-of-fold figures, its probabilities of the test images, and a page."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from eightfold.core import tensors
from eightfold.core.devices import Device
from eightfold.core.files import checked, read_json, write_json, write_table, write_text
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.inputs.sources import Activations
from eightfold.net import nets, scoring
from eightfold.predict import metrics, prediction
from eightfold.review import quick

with job(snakemake.log[0], snakemake.threads):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    targets, classes, multi_label = dataset.targets(table, info), info["classes"], info["task"] == "multi"
    positive = classes.index(settings["positive"]) if settings["positive"] in classes else len(classes) - 1
    judge = metrics.Judge(settings["metric"], info["task"], classes, positive)
    records = [read_json(path) for path in given.stages]
    ids, assigned = table["id"], dataset.read_folds(given.folds)
    rows, fold, logits, priors = [], [], [], []
    for number, (stage, path) in enumerate(zip(records, given.valid, strict=True)):
        found = tensors.load(path, stage["made_from"])
        train, _ = dataset.train_valid_rows(assigned, stage["fold"])
        rows.append(found["rows"].numpy())
        logits.append(found["logits"].numpy())
        fold.append(np.full(len(rows[-1]), number))
        priors.append(np.tile(quick.shares(targets[train], len(classes)), (len(rows[-1]), 1)))
    held_out = np.concatenate(rows)
    probabilities = scoring.probabilities_of(np.concatenate(logits), multi_label)
    outcome = {
        "manifest": info["digest"],
        "stage": settings["stage"],
        "task": info["task"],
        "metric": judge.name,
        "strengths": [stage["strength"]["chosen"] for stage in records],
        **quick.figures(probabilities, np.concatenate(priors), targets[held_out], np.concatenate(fold), judge),
    }
    if outcome["final"]:
        log.info(
            "%d held-out images: accuracy %.4f, log loss %.4f",
            *map(outcome["final"].get, ("images", "accuracy", "log_loss")),
        )

    test = np.flatnonzero(table["split"] == "test")
    answer = np.tile(prediction.class_prior(targets[table["split"] != "test"], len(classes)), (len(test), 1))
    if len(test):
        checked(given.activations, read_json(given.activations_identity))
        source = Activations([given.activations], Device(torch.device("cpu"), torch.float32))
        readable = test[(table["status"].iloc[test] == "ok").to_numpy()]
        with torch.inference_mode():
            pooled, members = source(readable, 0), []
            for path, identity in zip(given.checkpoints, given.checkpoint_identities, strict=True):
                head = nets.load_head(checked(path, read_json(identity)))
                members.append(scoring.probabilities_of(head(pooled).numpy(), multi_label))
        answer[np.isin(test, readable)] = np.mean(members, 0)
        unread = ids.iloc[np.setdiff1d(test, readable)].tolist()
        if unread:
            log.warning("%d test images cannot be read and get the class prior: %s", len(unread), unread[:10])
        outcome["unreadable_test_images"] = unread
    named = pd.DataFrame({"id": ids.iloc[test].array})
    write_table(made.test, pd.concat([named, pd.DataFrame(answer, columns=classes)], axis=1))
    by_class = quick.class_rows(probabilities, targets[held_out], classes) if outcome["final"] else []
    write_text(made.report, quick.page(settings["run"], outcome, by_class, len(test) > 0))
    write_json(made.metrics, outcome)
