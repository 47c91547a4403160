"""The plot of a learning-rate finder's sweep."""

from eightfold.core.files import read_json
from eightfold.core.runtime import job
from eightfold.review import plots

with job(snakemake):
    plots.lr_find_plot(snakemake.output.plot, read_json(snakemake.input.found))
