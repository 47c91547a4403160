"""Decode and resize every image of the manifest once: the packed pixel cache."""

import hashlib
from pathlib import Path

import numpy as np

from eightfold.core import shards
from eightfold.core.files import UserError, digest, read_json, write_json
from eightfold.core.runtime import job, progress
from eightfold.inputs import dataset, pixels
from eightfold.raw import images
from eightfold.raw.stores import Store

with job(snakemake.log[0], snakemake.threads):
    folder, short_side = Path(snakemake.output.identity).parent, snakemake.params.settings["short_side"]
    rows, info = dataset.read_manifest(Path(snakemake.input.manifest).parent)
    identity = read_json(snakemake.input.manifest_identity)
    folder_of_manifest = Path(snakemake.input.manifest).parent
    store = Store(identity["root"], identity["reading"])

    def read(item):
        path, status, sha256 = item
        if status != "ok":
            return np.empty((0, 0, 3), np.uint8)
        try:
            content = store.read(path)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise UserError(
                    f"{Path(store.root, path)}: has changed since the manifest was made; delete {folder_of_manifest} "
                    "and run again, and see what writes there"
                )
            return pixels.resized(images.open_image(content, identity["reading"]["range"], short_side), short_side)
        except (images.BadImage, OSError) as error:
            raise UserError(
                f"{Path(store.root, path)}: was readable when the manifest was made, and no longer is ({error})"
            ) from error

    if parts := getattr(snakemake.input, "parts", []):
        index = pixels.join(folder, [Path(path).parent for path in parts])
    else:
        items = list(zip(rows["path"], rows["status"], rows["sha256"], strict=True))
        items = shards.rows_of(items, getattr(snakemake.wildcards, "part", None))
        done = pixels.in_order(read, items, snakemake.threads)
        index = pixels.pack(folder, progress(done, len(items), f"pixels {short_side} px"))
    content = digest([info["digest"], snakemake.params.settings, index.tolist()])
    record = {"digest": content, "index": pixels.index_digest(index), "short_side": short_side, "images": len(index)}
    write_json(snakemake.output.identity, record)
