"""What a fastai user writes, asked for over a pipe: {"do": ...} in, {"seconds": ...} out. Run by peer.py."""

# ruff: noqa: F405
import contextlib
import json
import sys
import time

import torch
from fastai.vision.all import *  # noqa: F403 - as its users do
from fastai_parts import Bfloat16

GIVEN = json.loads(sys.argv[1])
MODELS = {"mobilenet_v2": __import__("torchvision").models.mobilenet_v2}


def loaders(size: int):
    """The defaults of fastai's own tutorials: images to 460 px by the loader's processes, the rest in batches."""
    tfms = [*aug_transforms(size=size)]
    if GIVEN["weights"]:
        tfms.append(Normalize.from_stats(*imagenet_stats))
    return ImageDataLoaders.from_folder(
        GIVEN["folder"],
        train="train",
        valid="valid",
        item_tfms=Resize(460),
        batch_tfms=tfms,
        bs=GIVEN["batch"],
    )


def learner():
    """fastai's learner; ``tuned``: channels_last, half precision where the machine computes it."""
    data = loaders(GIVEN["size"])
    if GIVEN["arch"] == "resnet34":
        made = vision_learner(data, resnet34, pretrained=False, metrics=accuracy)
    else:  # vision_learner cannot cut a network that fastai does not know; this is what it does besides
        network = create_vision_model(MODELS[GIVEN["arch"]], data.c, pretrained=False, cut=-1)
        made = Learner(data, network, splitter=default_split, metrics=accuracy)
    if GIVEN["weights"]:
        state = torch.load(GIVEN["weights"], weights_only=True)
        body = {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}
        made.model[0][0].load_state_dict(body)
    if GIVEN["tuned"]:
        made.model.to(memory_format=torch.channels_last)
        made.add_cb(ChannelsLast())
        if torch.cuda.is_available():
            made.to_fp16()
        elif GIVEN["bfloat16"]:
            made.add_cb(Bfloat16())
    return made


def recipe(stages: list[dict]) -> dict:
    """The stages with fastai's schedule, its finder before the stages that ask for one, and its own TTA at the end."""
    seconds, finders = {}, 0.0
    for stage in stages:
        started = time.perf_counter()
        if stage["size"] != GIVEN["size"]:
            GIVEN["size"] = stage["size"]
            made.dls = loaders(stage["size"])
        made.freeze() if stage["train"] == "head" else made.unfreeze()
        lr = stage["lr"]
        if stage["find"]:
            began = time.perf_counter()
            made.lr_find(show_plot=False)  # its cost is the recipe's; the rate is the same for both sides
            finders += time.perf_counter() - began
        made.fit_one_cycle(stage["epochs"], lr if stage["train"] == "head" else slice(lr / 100, lr))
        seconds[stage["name"]] = time.perf_counter() - started
        print(f"fastai: {stage['name']} {seconds[stage['name']]:.0f} s", file=sys.stderr, flush=True)
    started = time.perf_counter()
    chances, targets = made.tta(n=4)
    seconds["tta"] = time.perf_counter() - started
    right = float((chances.argmax(1) == targets).float().mean())
    loss = float(-chances[torch.arange(len(targets)), targets].clamp_min(1e-15).log().mean())
    return {"stages": seconds, "finders": finders, "accuracy": right, "log_loss": loss}


def answer(asked: dict) -> dict:
    if asked["do"] == "views":
        pipeline = Pipeline(aug_transforms(size=asked["size"]))
        for transform in pipeline.fs:
            transform.split_idx = None
        batch = TensorImage(torch.rand(64, 3, 256, 256))
        started = time.perf_counter()
        pipeline(batch)
        return {"seconds": time.perf_counter() - started}
    started, more = time.perf_counter(), {}
    if asked["do"] == "epoch":
        made.freeze() if asked["frozen"] else made.unfreeze()
        made.fit(1, 1e-5)
    elif asked["do"] == "lr_find":
        made.unfreeze()
        made.lr_find(num_it=asked["steps"], start_lr=1e-7, end_lr=1e-6, stop_div=False, show_plot=False)
    elif asked["do"] == "tta":
        made.tta(n=asked["views"])
    else:
        more = recipe(asked["stages"])
    return {"seconds": time.perf_counter() - started, **more}


set_seed(GIVEN["seed"])
made = learner()
for line in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr), made.no_bar(), made.no_logging():
        told = answer(json.loads(line))
    print(json.dumps(told), flush=True)
