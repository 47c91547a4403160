"""The plot of a learning-rate finder's sweep."""

from eightfold import plots
from eightfold.files import read_json
from eightfold.runtime import job

with job(snakemake.log[0], snakemake.threads):
    plots.lr_find_plot(snakemake.output.plot, read_json(snakemake.input.found))
