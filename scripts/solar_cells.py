"""The solar cells and the weights of examples/solar_cells.yaml, out of their packages."""

from pathlib import Path

from eightfold.core.files import write_json
from eightfold.core.runtime import job, log
from eightfold.raw import solar

with job(snakemake):
    identity = Path(snakemake.output.identity)
    made = solar.lay_out(identity.parent)
    write_json(identity, made)
    log.info(
        "%d photographs of solar cells (licence: %s), and weights", made["images"], identity.with_name("about.txt")
    )
