"""Activations of the frozen trunk: every image's pooled output in a range of views."""

import re
from contextlib import ExitStack
from pathlib import Path

from eightfold.core import shards
from eightfold.core.devices import device
from eightfold.core.files import UserError, checked, file_digest, identity_of, read_json, write_json
from eightfold.core.runtime import counted, job, log
from eightfold.inputs import activations, dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.net import nets

with job(snakemake.log[0], snakemake.threads):
    settings, given = snakemake.params.settings, snakemake.input
    weights = read_json(given.weights_identity)
    table, _ = dataset.read_manifest(Path(given.manifest).parent)
    labelled = table.index[table["split"] != "test"].to_numpy()
    choices = {"labelled": labelled, "trainable": table.index[table["split"] == "train"].to_numpy()}
    choices["readable"] = table.index[(table["split"] != "test") | (table["status"] == "ok")].to_numpy()
    if settings["rows"] in ("train", "valid"):
        choices["train"], choices["valid"] = dataset.train_valid_rows(
            dataset.read_folds(given.folds), snakemake.wildcards.fold
        )
    rows = shards.rows_of(choices[settings["rows"]], getattr(snakemake.wildcards, "part", None))

    # The range of views is no part of the identity: a view computed for a run with more or fewer epochs is as good.
    wanted, output = range(settings["first"], settings["last"] + 1), Path(snakemake.output.activations)
    what = {key: value for key, value in settings.items() if key not in ("first", "last")}
    identity = identity_of(
        what, snakemake.params.code, given.manifest_identity, given.pixels, given.weights_identity, given.trunk_identity
    )
    parts = getattr(given, "parts", [])
    found = activations.join(parts, rows, identity) if parts else {}
    for path in [] if parts else sorted(output.parent.glob(re.sub(r"\d+-\d+", "*", output.name))):
        try:
            _, earlier = activations.read(path, identity)
            found |= {view: values for view, values in earlier.items() if view in wanted}
        except UserError:
            log.info("%s was made from something else; leaving it alone", path)
    missing = [view for view in wanted if view not in found]
    log.info(
        "%d images, %s px, views %s; in earlier files: %s", len(rows), settings["size"], list(wanted), sorted(found)
    )

    with ExitStack() as stack:
        if missing:
            here = stack.enter_context(device(settings["device"]["kind"], settings["device"]["precision"]))
            trunk = nets.trunk_outline(weights["arch"])
            nets.load_part(trunk, checked(given.trunk, read_json(given.trunk_identity)), "trunk")
            augmentation = settings.get("augmentation", {"preset": "none", "crop": settings.get("crop", "center")})
            seed = settings.get("seed", 0)
            pixels = Pixels(Path(given.pixels).parent)
            source = Views(pixels, settings["size"], augmentation, seed, weights["mean"], weights["std"], here)
            batches = len(missing) * -(-len(rows) // shards.BATCH)
            on_progress = stack.enter_context(counted(batches, "activations", " batches"))
            found |= activations.compute(trunk, source, rows, missing, here, on_progress)
        activations.write(output, rows, {view: found[view] for view in wanted}, identity)  # which computes them
    write_json(snakemake.output.identity, {"digest": file_digest(output), "made_from": identity, "images": len(rows)})
