"""A linear stage, around the fit: its rows and inner folds, what the layer answers, and what its record says of the choice."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from eightfold.core.devices import Device
from eightfold.core.files import UserError, checked, read_json
from eightfold.core.runtime import counted, log
from eightfold.inputs import dataset, stratify
from eightfold.inputs.sources import Activations
from eightfold.net import scoring
from eightfold.train import linear, stopping
from eightfold.train.stage_record import Judged

CPU = Device(torch.device("cpu"), torch.float32)


class LinearSetting(NamedTuple):
    """All that a linear stage is fitted to.

    source: rows and a view to activations, on the CPU. targets: of every row of the manifest, as in `Setting`. inner: the
    inner fold of each train row, -1 for none (`linear.inner_folds`). views: the random ones that it learns beside the plain.
    """

    source: Activations
    targets: np.ndarray
    train_rows: np.ndarray
    valid_rows: np.ndarray
    classes: Sequence[str]
    inner: np.ndarray
    views: Sequence[int] = ()


class Fitted(NamedTuple):
    """layer: on raw activations, on the CPU. path: how its strength was chosen. seconds: that the fit took."""

    layer: nn.Linear
    path: linear.Path
    seconds: float


def open_linear(given, settings: dict, fold: str) -> LinearSetting:
    """Open a linear stage's inputs. ``given`` are the rule's named inputs, ``settings`` its settings.

    Raises UserError for damaged activations, and for fewer than 2 training images.
    """
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    for path, identity in zip(given.activations, given.activations_identities, strict=True):
        checked(path, read_json(identity))
    assigned, targets = dataset.read_folds(given.folds), dataset.targets(table, info)
    train_rows, valid_rows = dataset.train_valid_rows(assigned, fold)
    if len(train_rows) < 2:
        raise UserError(f"fold {fold}: {len(train_rows)} training images; at least 2 are needed")
    if settings["holds_back"]:
        train_rows, _ = stopping.split(targets, train_rows, stratify.units(table, "group"), (settings["seed"], fold))
    fold_of = assigned.set_index("row")["fold"].loc[train_rows].to_numpy()
    inner = linear.inner_folds(fold_of, table.iloc[train_rows], targets[train_rows], settings["seed"])
    source = Activations(given.activations, CPU)
    return LinearSetting(source, targets, train_rows, valid_rows, info["classes"], inner, settings["views"])


def fit_layer(setting: LinearSetting, stage: str, device: torch.device) -> Fitted:
    """Fit the layer to the train rows, in the plain view and the random ones. ``device`` does the arithmetic."""
    views, rows = [0, *setting.views], setting.train_rows
    with counted(len(linear.GRID) + 1, f"fit {stage}", " strengths") as on_step:
        log.info("%s: %d images, %d views each", stage, len(rows), len(views))
        began = time.monotonic()
        activations = [setting.source(rows, view) for view in views]
        layer, path = linear.fit(
            activations, setting.targets[rows], len(setting.classes), setting.inner, device, on_step
        )
        return Fitted(layer, path, time.monotonic() - began)


def judge_layer(setting: LinearSetting, layer: nn.Linear) -> Judged:
    """What the layer answers on the validation rows, and its loss on every train row, in the plain view."""
    with torch.inference_mode():
        valid, learned = (layer(setting.source(rows, 0)).numpy() for rows in (setting.valid_rows, setting.train_rows))
    wanted = setting.targets[setting.train_rows]
    return Judged(valid, scoring.losses(scoring.probabilities_of(learned, wanted.ndim == 2), wanted), 0)


def describe_fit(setting: LinearSetting, path: linear.Path) -> dict:
    """What stands in a linear stage's record where one that is trained has its epochs and rates: how C was chosen."""
    folds = f"{len(set(setting.inner[setting.inner >= 0]))} inner folds"
    how = folds if path.losses else "no inner folds, so the usual strength"
    return {
        "epochs": 1,
        "lr": [],
        "lr_source": f"no rate: fitted to its minimum, C = {path.chosen:.2g} by {how}",
        "strength": {"chosen": path.chosen, "tried": path.strengths, "log_loss": path.losses},
        "snapshots": 0,
    }


def describe_epoch(judged: dict, seconds: float) -> dict:
    """The row of history.csv that a linear stage leaves. ``judged``: as `stage_record.describe_judged` gives it."""
    metrics = judged["metrics"]
    return {
        "epoch": 1,
        "cycle": 1,
        "train_loss": judged["train_loss_eval"],
        "valid_loss": metrics.get("log_loss"),
        "accuracy": metrics.get("accuracy"),
        "seconds": seconds,
    }


def log_fit(fitted: Fitted, judged: dict) -> None:
    """Say in the log which strengths were tried, and how good the layer is. ``judged``: as in `describe_epoch`."""
    path, metrics = fitted.path, judged["metrics"]
    tried = ", ".join(f"{c:.1e} {loss:.4f}" for c, loss in zip(path.strengths, path.losses, strict=True))
    log.info("strength C and log loss of inner folds: %s; chosen: %.1e", tried or "none could be tried", path.chosen)
    scores = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("accuracy", "log_loss") if metrics)
    held_out = f", held out: {scores}" if scores else ""
    log.info("train loss %.4f%s, %.1f s", judged["train_loss_eval"], held_out, fitted.seconds)
