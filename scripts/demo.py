"""The demo's pictures and tables, laid out like a Kaggle competition."""

from pathlib import Path

from eightfold.demo import write_demo
from eightfold.files import write_json
from eightfold.listing import listing_digest
from eightfold.runtime import job

with job(snakemake.log[0], snakemake.threads):
    identity = snakemake.output.identity
    root = Path(identity).with_name("data")
    write_demo(root)
    write_json(identity, {"digest": listing_digest(root)})
