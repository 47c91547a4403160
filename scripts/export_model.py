"""The networks that answer as one file for other programs, compared with the networks themselves before it is kept."""

from pathlib import Path

import torch

from eightfold.core.devices import Device
from eightfold.core.files import read_json, write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.predict import answer, ensembles, export, finished, prediction

# Our own answer is that of the CPU in float32: on a device of fewer digits the two could not agree to four of them.
CPU = Device(torch.device("cpu"), torch.float32)

with job(snakemake):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    how = settings["answer"]
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    weights, tuned = read_json(given.weights_identity), read_json(given.tuning)
    blend = ensembles.read(read_json(given.chosen), how["ensemble"]["average"], info["task"] == "multi")
    if blend.uses_runs:
        log.warning("Warning: the submission averages other runs in (ensemble.runs); they are not in this file")
    blend = blend.without_runs().by_plain_view().used()
    folds = finished.find_networks(given, settings, ensembles.views_of(blend.members))
    kind = finished.Kind(settings["arch"], len(info["classes"]), weights["width"], settings["seed"])
    nets = list(finished.load_whole([network for networks in folds for network in networks], kind))
    notes = export.describe(info, folds, blend, settings["augmentation"]["crop"], tuned)

    rows = export.choose_rows(table, settings["checked"])
    folders = dict(zip(settings["answering_sizes"], (Path(path).parent for path in given.pixels), strict=True))
    source_of = prediction.get_views(folders, {**settings["augmentation"], "preset": "none"}, 0, weights, CPU)
    inputs = {size: source_of(size)(rows, 0) for size in notes["sizes"]}
    logits = export.answer_plain(nets, folds, inputs)
    wanted = answer.combine_networks(logits, blend, how["tta"], tuned["temperature"])
    pixels = [export.undo_normalisation(images, weights) for images in inputs.values()]

    write, run = export.FORMATS[Path(made.model).suffix]
    write(made.model, export.build(nets, folds, blend, weights, tuned["temperature"]), notes["sizes"], notes)
    worst = export.agree(made.model, run(made.model, pixels), wanted, settings["tolerance"])
    log.info("%s agrees with the run's networks within %.1g on %d images", made.model, worst, len(rows))
    write_json(made.record, {**notes, "checked": len(rows), "largest_difference": worst})
