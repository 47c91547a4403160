"""How much work each job of a run is, counted in what its time grows with. Does not import torch.

Amounts never fall where images are added, though rounding may let the real job make a few steps fewer: a forecast that did
would let more images buy a dearer recipe.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from eightfold.config.jobs import Job
from eightfold.config.plan import Plan
from eightfold.config.schedules import MOST_TRIAL_STEPS, batches_of, finder_steps, repeats, stage_epochs, trial_steps
from eightfold.core.shards import BATCH
from eightfold.upkeep.disk_space import ASPECT, count_all

BACKWARD = 3  # a training step computes three times what a forward pass does
FOLDS = 5  # of the split, where a finished job's settings do not say
TRIAL_IMAGES = 10_000  # at most that the finder's trials look at: train.lr_finder's, which imports torch
UNEVEN = MOST_TRIAL_STEPS  # batches an epoch up to which more of them may make fewer steps


class Work(NamedTuple):
    """amount: of units that ``kind`` counts; None: a job whose time grows with nothing that is known.

    Kinds: manifest (images), pixels (megapixels packed), network (megapixels forward), training (megapixels forward and back), head (vectors of
    activations forward and back), linear (vectors of activations in all fits of a linear stage).
    """

    kind: str
    amount: float | None
    size: int | None = None  # px, of images that pass through the network ...
    batch: int = BATCH  # ... so many at once


def learned(images: Counter, fold: str, folds: int = FOLDS) -> int:
    """Images that a fold trains on: all but those that the data, or else the fold, hold out.

    images: labelled, test, and valid, those of the labelled ones that the data give to validate with.
    """
    if fold == "all":
        return images["labelled"]
    return images["labelled"] - (images["valid"] or images["labelled"] // folds)


def work_of(rule: str, settings: Mapping, wildcards: Mapping[str, str], images: Counter, folds: int = FOLDS) -> Work:
    """The work of a job, from its rule, its settings and the number of images; ``images`` as in `learned`."""
    whole, labelled = count_all(images), images["labelled"]
    share = 1 / int(wildcards["part"].split("_of_")[1]) if "part" in wildcards else 1
    rule = rule.removesuffix("_part")
    train = learned(images, wildcards.get("fold", "0"), folds)
    held = labelled - train
    if rule == "manifest":
        return Work(rule, whole)
    if rule == "pixels":
        return Work(rule, whole * megapixels(settings["short_side"]) * ASPECT * share)
    if rule in ("activations", "activations_tuned"):
        views = settings["last"] - settings["first"] + 1
        rows = {
            "readable": whole,
            "trainable": labelled - images["valid"],
            "train": train,
            "labelled": labelled,
            "valid": held,
        }
        return Work("network", rows[settings["rows"]] * views * megapixels(settings["size"]) * share, settings["size"])
    if rule == "fit_linear":
        return Work("linear", train * (1 + len(settings["views"])))
    if rule == "predict":
        rows = images["test"] if wildcards["split"] == "test" else held
        seen = sum(megapixels(size) for size in _passes(settings["candidates"]))
        return Work("network", rows * settings["views"] * seen * share, max(settings["answering_sizes"]))
    if rule in ("find_lr", "train"):
        return _of_training(rule, settings, train, held)
    return Work(rule, None)


def megapixels(size: int) -> float:
    return size**2 / 1e6


def _passes(candidates: list[Mapping]) -> list[int]:
    """The size (px) of each pass of a trunk over an image that all candidates of a run need, for each view.

    All may have to answer: which do is chosen when the run is nearly done.
    """
    trunks = [
        (stage["stage"], network, stage["size"]) if stage["train"] == "all" else (stage["trunk"], "end", stage["size"])
        for stage in candidates
        for network in stage["networks"]
    ]
    return [size for *_, size in dict.fromkeys(trunks)]


def _of_training(rule: str, settings: Mapping, train: int, held: int) -> Work:
    """Work of a stage, or of its finder, that trains on so many images and is judged on ``held`` after each epoch."""
    stage, size, batch_size = settings["stage"], settings["stage"]["size"], settings["batch_size"]
    batches, batch = batches_of(train, batch_size), min(train, batch_size)
    epochs = stage_epochs(stage)
    if rule == "find_lr":
        tried = batches_of(min(train, TRIAL_IMAGES), batch_size)
        steps = finder_steps(settings["lr_find"]["steps"], batches, stage)
        steps += _most(lambda n: trial_steps(stage, n), tried) if settings.get("trials") else 0
        shown, judged = steps * batch, 0
    else:
        steps = _most(lambda n: n * epochs * repeats(stage, n), batches)
        shown, judged = (steps * batch if stage.get("min_steps") else train * epochs), held * epochs
    if stage["train"] != "all":
        return Work("head", shown)
    return Work("training", (shown + judged / BACKWARD) * megapixels(size) / stage.get("gpus", 1), size, batch_size)


def _most(steps: Callable[[int], int], batches: int) -> int:
    """The most steps that so many batches an epoch, or fewer, come to: rounding to whole epochs can make more batches take fewer."""
    return max(steps(n) for n in {*range(1, min(batches, UNEVEN) + 1), batches})


def settings_of(plan: Plan, job: Job) -> dict:
    """What `work_of` reads of a planned job's settings."""
    rule, words = job.rule.removesuffix("_part"), job.wildcards
    if rule == "train":
        return plan.train_settings(words["stage"])
    if rule == "fit_linear":
        return plan.fit_linear_settings(words["stage"])
    if rule == "find_lr":
        return plan.find_lr_settings(words["stage"])
    if rule in ("activations", "activations_tuned"):
        size = words.get("size") or plan.shared_activations[f"activations-{words['kind']}-{words['key']}"][0]
        return plan.activations_settings(int(size), int(words["first"]), int(words["last"]), words.get("stage"))
    if rule == "pixels":
        return {"short_side": plan.short_sides[words["key"]]}
    return plan.predict_settings() if rule == "predict" else {}
