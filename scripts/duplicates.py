"""Images that are there twice, by bytes and to the eye: duplicates.csv and its summary."""

from pathlib import Path

from eightfold.core.files import file_digest, write_json, write_table
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.raw import duplicates

with job(snakemake):
    folder = Path(snakemake.input.manifest).parent
    table, _ = dataset.read_manifest(folder)
    pairs = duplicates.find(table, duplicates.read_thumbnails(folder, len(table)))
    counts = duplicates.summary(pairs)
    log.info(
        "pairs: %(identical)d identical, %(near)d near; %(conflict)d with other labels, %(leak)d across splits", counts
    )
    write_table(snakemake.output.pairs, pairs)
    write_json(snakemake.output.record, counts | {"digest": file_digest(snakemake.output.pairs)})
