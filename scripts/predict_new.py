"""Labels and probabilities for a folder of new pictures, by a finished run."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold.core.devices import device
from eightfold.core.files import read_json, write_table
from eightfold.core.runtime import job, log, progress
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.predict import ensembles, finished, metrics, new_images, prediction
from eightfold.predict.answer import combine_networks
from eightfold.review.sheets import AMBER, GREY, sheet

with job(snakemake.log[0], snakemake.threads):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    info, weights = read_json(given.manifest_identity), read_json(given.weights_identity)
    classes, seed, folder = info["classes"], settings["seed"], settings["images"]
    tuned, multi_label = read_json(given.tuning), info["task"] == "multi"
    names = new_images.find(folder, settings["suffix"])
    blend = ensembles.read(read_json(given.chosen), settings["answer"]["ensemble"]["average"], multi_label).used()
    if any(member.stage is None for member in blend.members):
        blend = blend.without_runs()
        log.warning("Warning: the submission averages other runs in (ensemble.runs); these answers are this run's own")
    views = ensembles.views_of(blend.members)
    found = finished.find_networks(given, settings, views)
    with tempfile.TemporaryDirectory(dir=Path(made.predictions).parent, prefix=".pixels-") as packed:
        span = info["reading"]["range"]
        sides = dict(zip(settings["answering_sizes"], settings["short_sides"], strict=True))
        for side in sorted({sides[network.size] for networks in found for network in networks}):
            bad = new_images.pack(folder, names, Path(packed, str(side)), side, snakemake.threads, progress, span)
            pixels = Pixels(Path(packed, str(side)))
        rows = np.flatnonzero(pixels.index[:, 1] > 0)
        probabilities = np.empty((0, len(classes)))
        log.info("%d images, %d network(s)", len(rows), sum(map(len, found)))
        if len(rows):
            kind = finished.Kind(settings["arch"], len(classes), weights["features"], seed)
            with device(settings["device"]["kind"], settings["device"]["precision"]) as here:

                def source(size: int) -> Views:
                    of_size, mean, std = Pixels(Path(packed, str(sides[size]))), weights["mean"], weights["std"]
                    return Views(of_size, size, settings["augmentation"], seed, mean, std, here)

                logits = [
                    prediction.logits_of_networks(networks, kind, views, source, rows, here) for networks in found
                ]
            as_arrays = [{key: value.numpy() for key, value in of_fold.items()} for of_fold in logits]
            probabilities = combine_networks(as_arrays, blend, settings["answer"]["tta"], tuned["temperature"])
        decisions = metrics.decide(probabilities, classes, multi_label, tuned)
        answer = new_images.tabulate_answers(
            [names[row] for row in rows], probabilities, classes, info["separator"], decisions
        )
        shown = rows[: settings["shown"]]
        sheet(
            made.sheet,
            [pixels[row] for row in shown],
            [
                f"{said or 'nothing'} {sure:.0%}\n{name}"
                for name, said, sure in answer.iloc[: len(shown), :3].itertuples(index=False, name=None)
            ],
            columns=6,
            title=f"{Path(folder).name}: the first {len(shown)} of {len(rows)} pictures; amber: less than {settings['sure']:.0%} sure",
            colors=[AMBER if sure < settings["sure"] else GREY for sure in answer.iloc[: len(shown), 2]],
            empty=f"None of the {len(names)} files could be read.",
        )
    write_table(made.unreadable, pd.DataFrame(bad, columns=["path", "reason"]))
    write_table(made.predictions, answer)
    for name, reason in bad[:10]:
        log.warning("Warning: %s: %s; it has no prediction", name, reason)
    log.info("%d predictions: %s; %d files could not be read", len(answer), made.predictions, len(bad))
