"""The run's networks as one file for other programs, compared with the networks themselves before it is kept."""

from pathlib import Path

import numpy as np
import torch

from eightfold import export, finished, manifest, tuning
from eightfold.devices import Device
from eightfold.files import read_json, write_json
from eightfold.metrics import probabilities_of
from eightfold.pixels import Pixels
from eightfold.runtime import job, log
from eightfold.sources import Views

with job(snakemake.log[0], snakemake.threads):
    given, settings, made = snakemake.input, snakemake.params.settings, snakemake.output
    table, info = manifest.read_manifest(Path(given.manifest).parent)
    weights, classes = read_json(given.weights_identity), info["classes"]
    single, size = info["task"] == "single", settings["size"]
    found = finished.members(given, settings["train"])
    nets = list(finished.networks(found, settings["arch"], len(classes), weights["features"], settings["seed"]))

    # Our own answer, on the CPU in float32: on a device of fewer digits the two could not agree to four of them.
    cpu = Device(torch.device("cpu"), torch.float32)
    augmentation = {**settings["augmentation"], "preset": "none"}
    source = Views(Pixels(Path(given.pixels).parent), size, augmentation, 0, weights["mean"], weights["std"], cpu)
    rows = table.index[table["status"] == "ok"].to_numpy()[:: max(1, len(table) // settings["checked"])]
    inputs = source(rows[: settings["checked"]], 0)
    with torch.inference_mode():
        own = [probabilities_of(net(inputs).numpy(), not single) for net in nets]
    folds = sorted({member.fold for member in found})
    wanted = np.mean(
        [np.mean([p for p, member in zip(own, found, strict=True) if member.fold == fold], 0) for fold in folds], 0
    )
    tuned = read_json(given.tuning)
    wanted = tuning.with_temperature(wanted, tuned["temperature"], not single)
    mean, std = (torch.tensor(weights[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = ((inputs * std + mean) * 255).permute(0, 2, 3, 1).contiguous().numpy()

    notes = {
        "classes": classes,
        "task": info["task"],
        "input": f"float32 (n, {size}, {size}, 3), RGB, 0 to 255",
        "output": "float32 (n, classes), probabilities",
        "size": size,
        "crop": "squish" if settings["augmentation"]["crop"] == "squish" else "center",
        "networks": len(nets),
        "tuning": tuned,
    }
    model = export.Classifier(nets, found, weights["mean"], weights["std"], single, tuned["temperature"]).eval()
    write, run = {"pt2": (export.write_program, export.run_program), "onnx": (export.write_onnx, export.run_onnx)}[
        Path(made.model).suffix[1:]
    ]
    write(made.model, model, size, notes)
    worst = export.agree(made.model, run(made.model, pixels), wanted, settings["tolerance"])
    log.info("%s agrees with the run's networks within %.1g on %d pictures", made.model, worst, len(pixels))
    write_json(made.told, {**notes, "checked": len(pixels), "largest_difference": worst})
