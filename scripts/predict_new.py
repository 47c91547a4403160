"""Labels and probabilities for a folder of new pictures, by a finished run."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from eightfold import finished, newcomers, prediction, submission, tuning
from eightfold.devices import device
from eightfold.files import read_json, write_table
from eightfold.pixels import Pixels
from eightfold.runtime import job, log, progress
from eightfold.sheets import AMBER, GREY, sheet
from eightfold.sources import Views

with job(snakemake.log[0], snakemake.threads):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    info, weights = read_json(given.manifest_identity), read_json(given.weights_identity)
    classes, seed, folder = info["classes"], settings["seed"], settings["images"]
    tuned, several = read_json(given.tuning), info["task"] == "multi"
    names = newcomers.find(folder, settings["suffix"])
    found = finished.members(given, settings["train"])
    with tempfile.TemporaryDirectory(dir=Path(made.predictions).parent, prefix=".pixels-") as packed:
        span = info["reading"]["range"]
        bad = newcomers.pack(folder, names, packed, settings["short_side"], snakemake.threads, progress, span)
        rows = np.flatnonzero(Pixels(packed).index[:, 1] > 0)
        probabilities = np.empty((0, len(classes)))
        log.info("%d pictures, %d network(s), %d view(s) each", len(rows), len(found), 1 + settings["views"])
        pixels = Pixels(packed)
        if len(rows):
            with device(settings["device"]["kind"], settings["device"]["precision"]) as here:
                mean, std = weights["mean"], weights["std"]
                source = Views(pixels, settings["size"], settings["augmentation"], seed, mean, std, here)
                each = finished.networks(found, settings["arch"], len(classes), weights["features"], seed)
                logits = [
                    prediction.logits_of_views(net, source, rows, settings["views"], here).numpy() for net in each
                ]
            told, of_fold = read_json(given.metrics)["ensemble"], [member.fold for member in found]
            tta = {key: settings[key] for key in ("average", "weights")}
            probabilities = newcomers.combined(logits, of_fold, told, tta, settings["ensemble"], several)
            probabilities = tuning.with_temperature(probabilities, tuned["temperature"], several)
            if settings["runs"]:
                log.warning(
                    "Warning: the submission averages other runs in (ensemble.runs); these answers are this run's own"
                )
        decisions = submission.decide(probabilities, classes, several, tuned)
        answer = newcomers.answers([names[row] for row in rows], probabilities, classes, info["separator"], decisions)
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
