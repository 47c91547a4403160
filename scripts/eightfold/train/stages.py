"""A stage's network, its inputs and its rows, from the files that earlier rules made."""

import os
from pathlib import Path

import numpy as np
from torch import nn

from eightfold.core.devices import Device
from eightfold.core.files import UserError, checked, read_json
from eightfold.core.randomness import seed_for
from eightfold.inputs import dataset, stratify
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Activations, Views
from eightfold.net import checkpoint_parts, heads, nets, trunks
from eightfold.train import stopping
from eightfold.train.setting import Setting


def identity_inputs(given) -> list[str]:
    """The identity files among a rule's inputs, which say what all its inputs are."""
    names = ("manifest_identity", "folds_identity", "weights_identity", "trunk_identity", "head_identity", "pixels")
    found = [getattr(given, name) for name in names if getattr(given, name, None)]
    return found + list(getattr(given, "activations_identities", []))


def network(arch: str, classes: int, width: int, seed: int) -> nets.Net:
    """A trunk whose weights wait to be loaded, under a new head."""
    return nets.Net(trunks.trunk_outline(arch), heads.head(width, classes, seed_for(seed, "head")))


def open_setting(given, settings: dict, fold: str, device: Device) -> Setting:
    """Open a stage's inputs. ``given`` are the rule's named inputs, ``settings`` its settings.

    A head stage learns on cached activations and needs no trunk; a stage of all layers learns on views of pixels.
    """
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    weights, seed, stage = read_json(given.weights_identity), settings["seed"], settings["stage"]
    train_rows, valid_rows = dataset.train_valid_rows(dataset.read_folds(given.folds), fold)
    targets, held_back = dataset.targets(table, info), np.empty(0, np.int64)
    if settings["holds_back"]:
        units = stratify.units(table, "group")
        train_rows, held_back = stopping.split(targets, train_rows, units, (seed, fold))
    head = getattr(given, "head", None) or None
    if head:
        checked(head, read_json(given.head_identity))
    if stage["train"] == "head":
        net = heads.head(weights["width"], len(info["classes"]), seed_for(seed, "head"))
        if head:
            net = checkpoint_parts.load_head(head)
        for path, identity in zip(given.activations, given.activations_identities, strict=True):
            checked(path, read_json(identity))
        source = Activations(given.activations, device)
    else:
        trunk = checked(given.trunk, read_json(given.trunk_identity))
        net = network(settings["arch"], len(info["classes"]), weights["width"], seed)
        checkpoint_parts.load_part(net.trunk, trunk, "trunk")
        if head:
            net.head = checkpoint_parts.load_head(head)
        pixels = Pixels(Path(given.pixels).parent)
        source = Views(pixels, stage["size"], settings["augmentation"], seed, weights["mean"], weights["std"], device)
    if not len(train_rows):
        raise UserError(f"fold {fold}: no training images")
    return Setting(net, source, targets, train_rows, valid_rows, info["classes"], table["id"].tolist(), held_back)


def checkpoint_tensors(net: nn.Module) -> dict:
    """What a stage learned, by name: `head.*`, and `trunk.*` when all layers were trained."""
    return net.state_dict() if isinstance(net, nets.Net) else {f"head.{k}": v for k, v in net.state_dict().items()}


def identity_beside(checkpoint: str | os.PathLike) -> Path:
    """The stage.json that says what a stage's checkpoint and snapshots are."""
    return Path(checkpoint).with_name("stage.json")


def warnings_of(stage: dict, weights: str) -> list[str]:
    """What is allowed and seldom meant, in words. stage: as in the config; weights: `model.weights` of the starting trunk."""
    if stage["train"] == "all" and weights == "none" and stage["lr_ratio"] > 1:
        return [
            f"stage {stage['name']}: the trunk started from random weights, and lr_ratio {stage['lr_ratio']:g} lets its early layers "
            f"learn {stage['lr_ratio'] ** 2:g} times slower than the head; with nothing to preserve, lr_ratio: 1 is usual"
        ]
    return []


def resume_file(record: str | os.PathLike, identity: str) -> Path:
    """What a killed stage goes on from. ``record``: the stage.json, <run>/fold<fold>/<stage>/stage.json, that it is to write.

    Snakemake deletes declared outputs before a rerun, so this lies beside them, undeclared; the identity names it.
    """
    stage = Path(record).parent
    return stage.parents[1] / ".resume" / f"{stage.parent.name}.{stage.name}.{identity}.safetensors"


def forget_resume(record: str | os.PathLike) -> None:
    """Remove what a stage would go on from, for a job that reads it: that this job runs, says that Snakemake has noted the
    stage's end. The stage itself is not to remove it: killed before the note, it would be done again from its start."""
    mine = resume_file(record, "*")
    for path in mine.parent.glob(f"{mine.stem}.*"):
        path.unlink(missing_ok=True)
