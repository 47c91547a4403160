"""Labels and probabilities for a folder of new images, by a finished run."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.devices import device
from eightfold.core.files import read_json, write_table
from eightfold.core.runtime import job, log, progress
from eightfold.inputs.pixels import Pixels
from eightfold.predict import answer, ensembles, finished, metrics, new_images, prediction
from eightfold.review.new_images import draw_answers

with job(snakemake):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    info, weights, tuned = map(read_json, (given.manifest_identity, given.weights_identity, given.tuning))
    classes, multi_label, folder = info["classes"], info["task"] == "multi", settings["images"]
    names, left_out = new_images.find(folder, settings["suffix"])
    blend = ensembles.read(read_json(given.chosen), settings["answer"]["ensemble"]["average"], multi_label).used()
    if blend.uses_runs:
        blend = blend.without_runs()
        log.warning("Warning: the submission averages other runs in (ensemble.runs); these answers are this run's own")
    views = ensembles.views_of(blend.members)
    folds = finished.find_networks(given, settings, views)
    kind = finished.Kind(settings["arch"], len(classes), weights["width"], settings["seed"])

    with tempfile.TemporaryDirectory(dir=Path(made.predictions).parent, prefix=".pixels-") as packed:
        sides = dict(zip(settings["answering_sizes"], settings["short_sides"], strict=True))
        sides = {network.size: sides[network.size] for networks in folds for network in networks}
        span = info["reading"]["range"]
        folders, bad = new_images.pack_sizes(folder, names, packed, sides, snakemake.threads, progress, span)
        pixels = Pixels(folders[max(folders)])
        rows = np.flatnonzero(pixels.index[:, 1] > 0)
        log.info("%d images, %d network(s)", len(rows), sum(map(len, folds)))
        with device(**settings["device"]) as here:
            source_of = prediction.get_views(folders, settings["augmentation"], settings["seed"], weights, here)
            logits = [prediction.logits_of_networks(found, kind, views, source_of, rows, here) for found in folds]
        probabilities = answer.combine_networks(logits, blend, settings["answer"]["tta"], tuned["temperature"])
        decisions = metrics.decide(probabilities, classes, multi_label, tuned)
        paths = [names[row] for row in rows]
        table = new_images.tabulate_answers(paths, probabilities, classes, info["separator"], decisions)
        images = [pixels[row] for row in rows[: settings["shown"]]]
        draw_answers(made.sheet, folder, images, table, len(names), settings["sure"])

    bad += left_out
    write_table(made.unreadable, pd.DataFrame(bad, columns=["path", "reason"]))
    write_table(made.predictions, table)
    for name, reason in bad[:10]:
        log.warning("Warning: %s: %s; it has no prediction", name, reason)
    log.info("%d predictions: %s; %d files have none: %s", len(table), made.predictions, len(bad), made.unreadable)
