"""fastai as its documentation fine-tunes: a table of labels in, a submission out. Run by accuracy.py with a JSON text.

A fifth of the labelled images validates, as with us; the answers are those of fastai's test-time augmentation. fastai is tuned:
channels_last, and half precision where the machine computes it. Prints {"epochs", "training_s"} (seconds of processor).
"""

# ruff: noqa: F405
import contextlib
import csv
import json
import os
import sys
from pathlib import Path

import torch
from fastai.vision.all import *  # noqa: F403 - as its users do
from fastai_parts import learner_of, tune

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
from eightfold.core.devices import computes_bfloat16


def processor_s() -> float:
    """Seconds of this process and of its loaders, which have ended."""
    return sum(os.times()[:4])


def loaders(given: dict):
    """The defaults of fastai's tutorials; images larger than 1.5 times the size go through its usual 460 px."""
    size = given["size"]
    tfms = [*aug_transforms(size=size, do_flip=given["flip"], flip_vert=given["flip_vert"])]
    if given["weights"] != "none":
        tfms.append(Normalize.from_stats(given["mean"], given["std"]))
    return ImageDataLoaders.from_csv(
        given["root"],
        folder="train",
        suff=given["suffix"],
        valid_pct=0.2,
        seed=given["seed"],
        item_tfms=Resize(460 if size > 200 else size),
        batch_tfms=tfms,
        bs=given["batch"],
    )


def main(given: dict) -> dict:
    torch.set_num_threads(given["threads"])
    set_seed(given["seed"])
    data = loaders(given)
    made = learner_of(data, given["arch"], given["weights"])
    tune(made, computes_bfloat16(torch.device("cpu")))
    started = processor_s()
    with made.no_bar(), made.no_logging():
        if given["weights"] == "none":
            made.fit_one_cycle(given["epochs"] + 1, given["lr"])
        else:
            made.fine_tune(given["epochs"], given["lr"])
        training = processor_s() - started
        root = Path(given["root"])
        ids = [row["id"] for row in csv.DictReader((root / "sample_submission.csv").read_text().splitlines())]
        files = [root / "test" / f"{name}{given['suffix']}" for name in ids]
        answers = made.tta(dl=data.test_dl(files))[0]
    with open(given["out"], "w", newline="", encoding="utf-8") as file:
        rows = [[name, *map(float, row)] for name, row in zip(ids, answers, strict=True)]
        csv.writer(file).writerows([["id", *map(str, data.vocab)], *rows])
    return {"epochs": given["epochs"], "training_s": round(training, 1)}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        told = main(json.loads(sys.argv[1]))
    print(json.dumps(told))
