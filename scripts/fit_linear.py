"""Fit one linear stage of the recipe: the files of a trained stage, with the choice of its strength in stage.json."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from eightfold.core import tensors
from eightfold.core.devices import device
from eightfold.core.files import UserError, checked, file_digest, identity_of, read_json, write_json, write_table
from eightfold.core.runtime import counted, job, log
from eightfold.inputs import dataset, stratify
from eightfold.inputs.sources import Activations
from eightfold.net import scoring
from eightfold.train import linear, stages, stopping

with job(snakemake.log[0], snakemake.threads):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    fold, stage = snakemake.wildcards.fold, settings["stage"]
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    identity = identity_of(settings, snakemake.params.code, *stages.identity_inputs(given))
    if given.trunk_identity:
        stages.forget_resume(given.trunk_identity)
    for path, identity_path in zip(given.activations, given.activations_identities, strict=True):
        checked(path, read_json(identity_path))
    assigned = dataset.read_folds(given.folds)
    train_rows, valid_rows = dataset.train_valid_rows(assigned, fold)
    if len(train_rows) < 2:
        raise UserError(f"fold {fold}: {len(train_rows)} training images; at least 2 are needed")
    targets, multi_label = dataset.targets(table, info), info["task"] == "multi"
    if settings["holds_back"]:
        train_rows, _ = stopping.split(targets, train_rows, stratify.units(table, "group"), (settings["seed"], fold))
    fold_of = assigned.set_index("row")["fold"].loc[train_rows].to_numpy()
    inner = linear.inner_folds(fold_of, table.iloc[train_rows], targets[train_rows], settings["seed"])
    with (
        device(settings["device"]["kind"], settings["device"]["precision"]) as here,
        counted(len(linear.GRID) + 1, f"fit {stage['name']}", " strengths") as on_step,
    ):
        source = Activations(given.activations, here._replace(device=torch.device("cpu")))
        views = [0, *settings["views"]]
        log.info("%s: %d images, %d views each", stage["name"], len(train_rows), len(views))
        began = time.monotonic()
        layer, path = linear.fit(
            [source(train_rows, view) for view in views],
            targets[train_rows],
            len(info["classes"]),
            inner,
            here.device,
            on_step,
        )
        seconds = time.monotonic() - began

        def answers(rows: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return layer(source(rows, 0)).numpy()

        seen = answers(valid_rows)

    def figures(logits: np.ndarray, rows: np.ndarray) -> dict:
        return scoring.figures(scoring.probabilities_of(logits, multi_label), targets[rows]) if len(rows) else {}

    tensors.save(made.valid, {"rows": torch.tensor(valid_rows), "logits": torch.tensor(seen)}, identity)
    tensors.save(made.checkpoint, stages.checkpoint_tensors(layer), identity)
    tensors.save(made.snapshots, {}, identity)
    learned = scoring.losses(scoring.probabilities_of(answers(train_rows), multi_label), targets[train_rows])
    train_loss, train_error = scoring.mean_and_error(learned)
    of_valid = figures(seen, valid_rows)
    row = {"epoch": 1, "cycle": 1, "train_loss": train_loss, "valid_loss": of_valid.get("log_loss")}
    write_table(made.history, pd.DataFrame([row | {"accuracy": of_valid.get("accuracy"), "seconds": seconds}]))
    write_table(made.batches, pd.DataFrame(columns=["step", "epoch", "cycle", "lr", "loss", "images"]))
    tried = ", ".join(f"{c:.1e} {loss:.4f}" for c, loss in zip(path.strengths, path.losses, strict=True))
    log.info("strength C and log loss of inner folds: %s; chosen: %.1e", tried or "none could be tried", path.chosen)
    scores = ", ".join(f"{name} {of_valid[name]:.4f}" for name in ("accuracy", "log_loss") if of_valid)
    log.info("train loss %.4f%s, %.1f s", train_loss, f", held out: {scores}" if scores else "", seconds)
    how = f"{len(set(inner[inner >= 0]))} inner folds" if path.losses else "no inner folds, so the usual strength"
    record = {
        "stage": stage["name"],
        "fold": fold,
        "size": stage["size"],
        "train": stage["train"],
        "epochs": 1,
        "lr": [],
        "lr_source": f"no rate: fitted to its minimum, C = {path.chosen:.2g} by {how}",
        "strength": {"chosen": path.chosen, "tried": path.strengths, "log_loss": path.losses},
        "snapshots": 0,
        "snapshots_digest": file_digest(made.snapshots),
        "train_loss": train_loss,
        "train_loss_eval": train_loss,
        "train_loss_eval_se": train_error,
        "train_images_evaluated": len(learned),
        "train_view_evaluated": 0,
        "metrics": of_valid,
        "precision": "float32",
        "device": here.device.type,
        "images": {"train": len(train_rows), "valid": len(valid_rows)},
    }
    write_json(made.record, {"digest": file_digest(made.checkpoint), "made_from": identity, **record})
