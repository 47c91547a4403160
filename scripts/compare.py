"""All finished runs as one table and one page."""

from pathlib import Path

from eightfold.core.files import UserError, write_table, write_text
from eightfold.core.runtime import job, log
from eightfold.review import compare

with job(snakemake):
    folders = [Path(folder) for folder in snakemake.params.settings["runs"]]
    if not folders:
        raise UserError("results: no finished run (none has a metrics.json); make a submission or evaluate first")
    runs = [compare.read_run(folder) for folder in folders]
    write_table(snakemake.output.table, compare.table(runs))
    write_text(snakemake.output.page, compare.page(runs))
    log.info("%d runs: %s", len(runs), snakemake.output.page)
