"""What the network of the first fold looks at, and a map of the pictures that fold held out."""

import base64
from pathlib import Path

import numpy as np
import torch

from eightfold.core.devices import Device, device
from eightfold.core.files import checked, read_json, write_json
from eightfold.core.runtime import job, log
from eightfold.inputs import dataset
from eightfold.inputs.pixels import Pixels
from eightfold.inputs.sources import Views
from eightfold.net import nets
from eightfold.net.scoring import probabilities_of
from eightfold.review import insight, review
from eightfold.review.sheets import GREEN, RED, sheet
from eightfold.train import stages

with job(snakemake.log[0], snakemake.threads):
    given, made, settings = snakemake.input, snakemake.output, snakemake.params.settings
    table, info = dataset.read_manifest(Path(given.manifest).parent)
    weights, classes, single = read_json(given.weights_identity), info["classes"], info["task"] == "single"
    rows = dataset.train_valid_rows(dataset.read_folds(given.folds), settings["fold"])[1]
    rows = rows[review.random_rows(np.arange(len(rows)), settings["most"], settings["seed"])]
    record = {
        "points": [],
        "classes": classes,
        "thumbnail": insight.THUMBNAIL,
        "columns": insight.COLUMNS,
        "sprite": None,
    }
    sheets = {"most_incorrect": ([], [], []), "most_uncertain": ([], [], [])}
    if len(rows):
        net = stages.network(settings["arch"], len(classes), weights["features"], settings["seed"])
        nets.load_part(net.trunk, checked(given.trunk, read_json(given.trunk_identity)), "trunk")
        net.head = nets.load_head(checked(given.head, read_json(given.head_identity)))
        pixels, mean, std = Pixels(Path(given.pixels).parent), weights["mean"], weights["std"]
        plain = {"preset": "none", **settings["augmentation"]}
        with device(settings["device"]["kind"], settings["device"]["precision"]) as here:
            source = Views(pixels, settings["size"], plain, 0, mean, std, here)
            values, logits = insight.features(net, source, rows, here)
        probabilities = probabilities_of(logits, not single)
        targets = dataset.targets(table, info)[rows]
        guesses, good = review.predicted(probabilities, targets), review.right(probabilities, targets)
        maps, like = insight.flat_maps(values, settings["seed"]), insight.nearest(values)
        first = probabilities.argmax(1)
        record["points"] = [
            {
                "id": table["id"][row],
                "truth": review.names_of(targets[i], classes),
                "said": review.names_of(guesses[i], classes),
                "sure": round(float(probabilities[i].max()), 3),
                "colour": int(targets[i] if single else first[i]),
                "right": bool(good[i]),
                **{name: [round(float(x), 4) for x in places[i]] for name, places in maps.items()},
                "like": like[i].tolist(),
            }
            for i, row in enumerate(rows)
        ]
        record["sprite"] = base64.b64encode(insight.sprite([pixels[row] for row in rows])).decode()

        # Each picture twice: what spoke for the answer, and what spoke for the truth.
        net, cpu = net.to("cpu"), Device(torch.device("cpu"), torch.float32)
        source = Views(pixels, settings["size"], plain, 0, mean, std, cpu)
        for name, (images, captions, colours) in sheets.items():
            for i in getattr(review, name)(probabilities, targets, settings["per_sheet"]):
                truth = int(targets[i]) if single else int(np.argmax(np.where(targets[i] > 0, probabilities[i], -1)))
                inputs = source(rows[i : i + 1], 0)
                heats = insight.grad_cam(net, inputs.repeat(2, 1, 1, 1), [int(first[i]), truth])
                shape = (3, 1, 1)
                picture = (inputs[0] * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)) * 255
                picture = picture.clamp(0, 255).permute(1, 2, 0).numpy()
                for heat, number, said in ((heats[0], int(first[i]), "predicted"), (heats[1], truth, "actual")):
                    images.append(insight.overlay(picture, heat))
                    captions.append(
                        f"for {said} {classes[number]}\n{probabilities[i][number]:.0%}\n{table['id'][rows[i]]}"
                    )
                    colours.append(GREEN if number == truth else RED)
    for name, (images, captions, colours) in sheets.items():
        title = f"{name.replace('_', ' ').capitalize()}: what spoke for each class (Grad-CAM)"
        sheet(made[f"cam_{name}"], images, captions, title=title, colors=colours, empty="None to show.")
    write_json(made.map, record)
    log.info("%d pictures on the map", len(record["points"]))
