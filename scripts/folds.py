"""The fold that holds out each labelled image."""

from pathlib import Path

from eightfold.core.files import write_json, write_table
from eightfold.core.runtime import job, log
from eightfold.core.wording import listed
from eightfold.inputs.dataset import read_manifest, read_text_table
from eightfold.raw import folds

with job(snakemake):
    settings, given = snakemake.params.settings, snakemake.input
    table, info = read_manifest(Path(given.manifest_identity).parent)
    pairs = read_text_table(given.duplicates)[["row_a", "row_b"]].to_numpy(int)
    found = folds.assign(table, info, settings["split"], settings["seed"], pairs)
    apart = folds.straddling(found, pairs)
    torn = folds.torn_groups(table["group"].iloc[found["row"]], found["fold"].to_numpy())
    if apart:
        log.warning("Warning: %d pairs of images that look alike lie in different folds:%s", len(apart), listed(apart))
    if torn:
        log.warning(
            "Warning: %d groups straddle folds, since split.method %s does not look at data.group:%s",
            *(len(torn), settings["split"]["method"], listed(torn)),
        )
    write_table(snakemake.output.folds, found)
    record = folds.summary(found, info, settings["split"])
    write_json(snakemake.output.identity, record | {"pairs_apart": len(apart), "groups_torn": len(torn)})
