"""The plot of how a linear stage's strength was chosen."""

from eightfold import plots
from eightfold.files import read_json
from eightfold.runtime import job

with job(snakemake.log[0], snakemake.threads):
    plots.strength_plot(snakemake.output.plot, read_json(snakemake.input.told)["strength"])
