"""The demo's images and tables, laid out like a Kaggle competition."""

from pathlib import Path

from eightfold.core.files import write_json
from eightfold.core.listing import listing_digest
from eightfold.core.runtime import job
from eightfold.raw.demo import write_demo

with job(snakemake):
    identity = snakemake.output.identity
    root = Path(identity).with_name("data")
    write_demo(root)
    write_json(identity, {"digest": listing_digest(root)})
