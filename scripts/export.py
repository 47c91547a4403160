"""The networks that answer as one file for other programs, compared with the networks themselves before it is kept."""

from pathlib import Path

import numpy as np
import torch

from eightfold.core.devices import Device
from eightfold.core.files import read_json, write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.predict import ensembles, export, finished
from eightfold.predict.answer import combine_networks

with job(snakemake.log[0], snakemake.threads):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    weights, classes = read_json(given.weights_identity), info["classes"]
    single, average = info["task"] == "single", settings["answer"]["ensemble"]["average"]
    blend = ensembles.read(read_json(given.chosen), average, not single)
    if any(member.stage is None and weight > 0 for member, weight in zip(blend.members, blend.weights, strict=True)):
        log.warning("Warning: the submission averages other runs in (ensemble.runs); they are not in this file")
    blend = blend.without_runs().by_plain_view().used()
    folds = finished.find_networks(given, settings, ensembles.views_of(blend.members))
    kind = finished.Kind(settings["arch"], len(classes), weights["features"], settings["seed"])
    found = [network for of_fold in folds for network in of_fold]
    nets = list(finished.load_whole(found, kind))
    weight_of = {(m.stage, m.network): w for m, w in zip(blend.members, blend.weights, strict=True)}
    shares = [weight_of[network.stage, network.name] / len(folds) for network in found]
    sizes = sorted({network.size for network in found})

    # Our own answer, on the CPU in float32: on a device of fewer digits the two could not agree to four of them.
    cpu = Device(torch.device("cpu"), torch.float32)
    augmentation = {**settings["augmentation"], "preset": "none"}
    mean, std = weights["mean"], weights["std"]
    folder_of = dict(zip(settings["answering_sizes"], (Path(path).parent for path in given.pixels), strict=True))
    rows = table.index[table["status"] == "ok"].to_numpy()[:: max(1, len(table) // settings["checked"])]
    rows = rows[: settings["checked"]]
    inputs = {size: Views(Pixels(folder_of[size]), size, augmentation, 0, mean, std, cpu)(rows, 0) for size in sizes}
    with torch.inference_mode():
        own = iter([net(inputs[network.size]).numpy()[None] for net, network in zip(nets, found, strict=True)])
    logits = [{network.key: next(own) for network in of_fold} for of_fold in folds]
    tuned = read_json(given.tuning)
    wanted = combine_networks(logits, blend, settings["answer"]["tta"], tuned["temperature"])
    middle, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    pixels = [
        ((of_size * spread + middle) * 255).permute(0, 2, 3, 1).contiguous().numpy() for of_size in inputs.values()
    ]

    notes = {
        "classes": classes,
        "task": info["task"],
        "inputs": {
            name: f"float32 (n, {size}, {size}, 3), RGB, 0 to 255"
            for name, size in zip(export.input_names(sizes), sizes, strict=True)
        },
        "output": "float32 (n, classes), probabilities",
        "sizes": sizes,
        "crop": "squish" if settings["augmentation"]["crop"] == "squish" else "center",
        "networks": [
            {
                "fold": fold,
                "stage": network.stage,
                "network": network.name,
                "weight": float(weight_of[network.stage, network.name]),
            }
            for fold, of_fold in enumerate(folds)
            for network in of_fold
        ],
        "tuning": tuned,
    }
    model = export.Classifier(
        nets, shares, [network.size for network in found], (mean, std), single, average, tuned["temperature"]
    ).eval()
    write, run = {"pt2": (export.write_program, export.run_program), "onnx": (export.write_onnx, export.run_onnx)}[
        Path(made.model).suffix[1:]
    ]
    write(made.model, model, sizes, notes)
    worst = export.agree(made.model, run(made.model, pixels), np.asarray(wanted), settings["tolerance"])
    log.info("%s agrees with the run's networks within %.1g on %d images", made.model, worst, len(rows))
    write_json(made.record, {**notes, "checked": len(rows), "largest_difference": worst})
