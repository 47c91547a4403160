"""The plots of every stage: loss and learning rate per mini-batch. Apart from training, which a new colour must not repeat."""

import pandas as pd

from eightfold.core.runtime import job
from eightfold.review import plots

with job(snakemake):
    given, made = snakemake.input, snakemake.output
    for i, (batches_path, history_path) in enumerate(zip(given.batches, given.histories, strict=True)):
        batches, history = pd.read_csv(batches_path), pd.read_csv(history_path)
        plots.loss_plot(made.losses[i], batches, history)
        plots.lr_plot(made.rates[i], batches)
