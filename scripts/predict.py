"""Logits of a fold's networks for the held-out or the test images: the plain view and the TTA views."""

from pathlib import Path

import torch

from eightfold.core import shards, software, tensors
from eightfold.core.devices import device
from eightfold.core.files import file_digest, identity_of, read_json, write_json
from eightfold.core.runtime import job
from eightfold.inputs import dataset
from eightfold.predict import ensembles, finished, prediction
from eightfold.train import stages

with job(snakemake):
    given, made, settings, wildcards = snakemake.input, snakemake.output, snakemake.params.settings, snakemake.wildcards
    for path in given.stages:
        stages.forget_resume(path)
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    rows = prediction.choose_rows(table, given.folds, wildcards.split, wildcards.fold)
    rows = shards.rows_of(rows, getattr(wildcards, "part", None))
    chosen = getattr(given, "chosen", None)  # known where the test images are predicted
    described = [given.manifest_identity, given.folds_identity, given.weights_identity, *given.stages, *given.pixels]
    identity = identity_of(settings, snakemake.params.code, *described, *([chosen] if chosen else []))

    if parts := getattr(given, "parts", []):
        precision = shards.one_format(given.parts_identities)
        logits = prediction.join(parts, rows, identity)
    else:
        views = ensembles.views_of_candidates(settings["candidates"], settings["views"])
        if chosen:
            views = ensembles.views_of(ensembles.read(read_json(chosen)).used().members)
        (networks,) = finished.find_networks(given, settings, views)
        weights = read_json(given.weights_identity)
        kind = finished.Kind(settings["arch"], len(info["classes"]), weights["width"], settings["seed"])
        folders = dict(zip(settings["answering_sizes"], (Path(path).parent for path in given.pixels), strict=True))
        with device(**settings["device"]) as here:
            precision = here.precision
            source_of = prediction.get_views(folders, settings["augmentation"], settings["seed"], weights, here)
            logits = prediction.logits_of_networks(networks, kind, views, source_of, rows, here)
    # logits of each network: (views, rows, classes)
    tensors.save(made.logits, {"rows": torch.tensor(rows), **logits}, identity)
    record = {"digest": file_digest(made.logits), "images": len(rows)}
    write_json(made.identity, record | {"precision": precision, "versions": software.versions()})
