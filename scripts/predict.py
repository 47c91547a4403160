"""Logits of a fold's final network for the held-out or the test images: the plain view and the TTA views."""

from pathlib import Path

import torch

from eightfold import folds, manifest, nets, prediction, shards, stages, tensors
from eightfold.devices import device
from eightfold.files import checked, file_digest, identity_of, read_json, write_json
from eightfold.pixels import Pixels
from eightfold.runtime import job, log
from eightfold.sources import Views

with job(snakemake.log[0], snakemake.threads):
    given, settings, wildcards = snakemake.input, snakemake.params.settings, snakemake.wildcards
    table, info = manifest.read_manifest(Path(given.manifest).parent)
    weights = read_json(given.weights_identity)
    if wildcards.split == "test":
        # A test image that cannot be read has no view; it gets the class prior when predictions are combined.
        rows = table.index[(table["split"] == "test") & (table["status"] == "ok")].to_numpy()
    else:
        _, rows = folds.train_valid_rows(folds.read_folds(given.folds), wildcards.fold)
    stages.forget_resume(given.head_identity)
    rows = shards.rows_of(rows, getattr(wildcards, "part", None))
    identity = identity_of(settings, snakemake.params.code, *stages.identity_inputs(given))
    for path, told in ((given.trunk, given.trunk_identity), (given.head, given.head_identity)):
        checked(path, read_json(told))
    if parts := getattr(given, "parts", []):
        logits = prediction.join(parts, rows, identity)
    else:
        members = [""]
        if getattr(given, "snapshots", None):
            told = read_json(given.head_identity)
            checked(given.snapshots, {"digest": told["snapshots_digest"]})
            members = [f"snapshot{cycle}." for cycle in range(1, told["snapshots"] + 1)]
        with device(settings["device"]["kind"], settings["device"]["precision"]) as here:
            pixels = Pixels(Path(given.pixels).parent)
            augmentation, seed, views = settings["augmentation"], settings["seed"], settings["views"]
            source = Views(pixels, settings["size"], augmentation, seed, weights["mean"], weights["std"], here)
            log.info("%s: %d networks, %d images, %d views", given.head, len(members), len(rows), 1 + views)

            def network(member: str) -> nets.Net:
                net = stages.network(settings["arch"], len(info["classes"]), weights["features"], seed)
                head = given.snapshots if member else given.head
                # A head stage's checkpoints hold no trunk: that is the earlier stage's.
                own_trunk = bool(member) and settings["train"] == "all"
                nets.load_part(net.trunk, head if own_trunk else given.trunk, f"{member if own_trunk else ''}trunk")
                nets.load_part(net.head, head, f"{member}head")
                return net

            if settings["train"] == "head":
                heads = [network(member).head for member in members]
                trunk = network(members[0]).trunk
                logits = prediction.logits_of_heads(trunk, heads, source, rows, views, here)
            else:
                classes = len(info["classes"])
                each = (network(member) for member in members)
                logits = torch.stack(
                    [prediction.logits_of_views(net, source, rows, views, here, classes) for net in each]
                )
    # logits: (members, views, rows, classes)
    tensors.save(snakemake.output.logits, {"rows": torch.tensor(rows), "logits": logits}, identity)
    write_json(snakemake.output.identity, {"digest": file_digest(snakemake.output.logits), "images": len(rows)})
