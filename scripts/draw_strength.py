"""The plot of how a linear stage's strength was chosen."""

from eightfold.core.files import read_json
from eightfold.core.runtime import job
from eightfold.review import plots

with job(snakemake):
    plots.strength_plot(snakemake.output.plot, read_json(snakemake.input.record)["strength"])
