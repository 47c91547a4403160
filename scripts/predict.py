"""Logits of a fold's networks for the held-out or the test images: the plain view and the TTA views."""

from pathlib import Path

import torch

from eightfold.core import shards, tensors
from eightfold.core.devices import device
from eightfold.core.files import checked, file_digest, identity_of, read_json, write_json
from eightfold.core.runtime import job
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.predict import ensembles, finished, prediction
from eightfold.train import stages

with job(snakemake.log[0], snakemake.threads):
    given, settings, wildcards = snakemake.input, snakemake.params.settings, snakemake.wildcards
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    weights = read_json(given.weights_identity)
    if wildcards.split == "test":
        # A test image that cannot be read has no view; it gets the class prior when predictions are combined.
        rows = table.index[(table["split"] == "test") & (table["status"] == "ok")].to_numpy()
    else:
        _, rows = dataset.train_valid_rows(dataset.read_folds(given.folds), wildcards.fold)
    for path in given.stages:
        stages.forget_resume(path)
    rows = shards.rows_of(rows, getattr(wildcards, "part", None))
    described = [given.manifest_identity, given.folds_identity, given.weights_identity, *given.stages, *given.pixels]
    chosen = getattr(given, "chosen", None)
    identity = identity_of(settings, snakemake.params.code, *described, *([chosen] if chosen else []))
    # All views of all candidates where the choice is made, those of the chosen ones where it is known.
    views = {
        (stage["stage"], name): settings["views"] for stage in settings["candidates"] for name in stage["networks"]
    }
    if chosen:
        views = ensembles.views_of(ensembles.read(read_json(chosen)).used().members)
    if parts := getattr(given, "parts", []):
        logits = prediction.join(parts, rows, identity)
    else:
        networks = finished.networks_of(
            settings["candidates"],
            dict(zip(settings["answering"], given.checkpoints, strict=True)),
            dict(zip(settings["answering_snapshots"], given.snapshots, strict=True)),
            given.trunk,
            views,
        )
        checked(given.trunk, weights)
        kind = finished.Kind(settings["arch"], len(info["classes"]), weights["features"], settings["seed"])
        pixels = dict(zip(settings["answering_sizes"], given.pixels, strict=True))
        with device(settings["device"]["kind"], settings["device"]["precision"]) as here:

            def source(size: int) -> Views:
                packed, augmentation = Pixels(Path(pixels[size]).parent), settings["augmentation"]
                return Views(packed, size, augmentation, settings["seed"], weights["mean"], weights["std"], here)

            wanted = {f"{stage}.{name}": count for (stage, name), count in views.items()}
            logits = prediction.logits_of_networks(networks, kind, wanted, source, rows, here)
    # logits of each network: (views, rows, classes)
    tensors.save(snakemake.output.logits, {"rows": torch.tensor(rows), **logits}, identity)
    write_json(snakemake.output.identity, {"digest": file_digest(snakemake.output.logits), "images": len(rows)})
