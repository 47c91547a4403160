"""Decode and resize every image of the manifest once: the packed pixel cache."""

from pathlib import Path

import numpy as np

from eightfold import images, manifest, pixels, shards
from eightfold.files import UserError, digest, read_json, write_json
from eightfold.runtime import job, progress
from eightfold.stores import Store

with job(snakemake.log[0], snakemake.threads):
    folder, short_side = Path(snakemake.output.identity).parent, snakemake.params.settings["short_side"]
    rows, info = manifest.read_manifest(Path(snakemake.input.manifest).parent)
    identity = read_json(snakemake.input.manifest_identity)
    store = Store(identity["root"], identity["reading"])

    def read(item):
        path, status = item
        if status != "ok":
            return np.empty((0, 0, 3), np.uint8)
        try:
            image = images.open_image(store.read(path), identity["reading"]["range"], short_side)
            return pixels.resized(image, short_side)
        except (images.BadImage, OSError) as error:
            raise UserError(
                f"{Path(store.root, path)}: was readable when the manifest was made, and no longer is ({error})"
            ) from error

    if parts := getattr(snakemake.input, "parts", []):
        index = pixels.join(folder, [Path(path).parent for path in parts])
    else:
        items = list(zip(rows["path"], rows["status"], strict=True))
        items = shards.rows_of(items, getattr(snakemake.wildcards, "part", None))
        done = pixels.in_order(read, items, snakemake.threads)
        index = pixels.pack(folder, progress(done, len(items), f"pixels {short_side} px"))
    content = digest([info["digest"], snakemake.params.settings, index.tolist()])
    write_json(snakemake.output.identity, {"digest": content, "short_side": short_side, "images": len(index)})
