"""A few labelled pictures as they are and as training sees them."""

from pathlib import Path

import numpy as np
import torch

from eightfold.core.devices import Device
from eightfold.core.runtime import job
from eightfold.inputs import dataset, views
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.review import review
from eightfold.review.sheets import GREEN, GREY, sheet

with job(snakemake.log[0], snakemake.threads):
    settings = snakemake.params.settings
    table, _ = dataset.read_manifest(Path(snakemake.input.manifest).parent)
    labelled = table.index[(table["split"] != "test") & (table["status"] == "ok")].to_numpy()
    rows = review.random_rows(labelled, settings["pictures"], settings["seed"])
    cpu = Device(torch.device("cpu"), torch.float32)
    # A mean of 0 and a deviation of 1/255 leave the pixels as they are.
    pixels = Pixels(Path(snakemake.input.pixels).parent)
    source = Views(pixels, settings["size"], settings["augmentation"], settings["seed"], (0,) * 3, (1 / 255,) * 3, cpu)
    shown = [
        source(rows, view).clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
        for view in range(settings["views"] + 1)
    ]
    order = [(row, view) for row in range(len(rows)) for view in range(settings["views"] + 1)]
    sheet(
        snakemake.output.sheet,
        [shown[view][row] for row, view in order],
        [f"view {view}" if view != views.PLAIN else f"plain\n{table['id'][rows[row]]}" for row, view in order],
        columns=settings["views"] + 1,
        title=f"As they are (green) and as training sees them: {settings['augmentation']['preset']}",
        colors=[GREY if view else GREEN for _, view in order],
    )
