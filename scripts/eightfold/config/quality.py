"""What a quality, or a number of hours, buys: the network, stages, folds and views of a new config. Must not import torch.

Pure functions of a job's numbers. A `Recipe` is what a quality writes; the `ladder` has several, from the cheapest to the
dearest; `best_within` takes the best one whose forecast fits into a number of seconds. The forecast is the caller's.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eightfold.core.files import UserError

QUALITIES = ("quick", "good", "best")
# Labelled images below which no stage trains all layers: on ants and bees (245) they add nothing to the heads (docs/results.md).
FEW, FEW_OF_A_CLASS = 500, 10
SOME = 2000  # labelled images below which a stage of all layers has 1 + 2 epochs, from which on 1 + 2 + 4 (docs/faq.md)
FOLDS = 5
TTA_VIEWS, MORE_TTA_VIEWS = 4, 7  # 7 and the plain one are the eight flips and turns of `top_down`


class Job(NamedTuple):
    """What the choices depend on. labelled: images; short_side: their median, px, None where unknown; gpu: whether there is
    one; split_given: whether the data name the images that validate, so that there is one split and no folds."""

    labelled: int
    classes: int
    short_side: int | None
    preset: str
    gpu: bool
    split_given: bool = False


class Recipe(NamedTuple):
    """A rung of the ladder. why: of the stages, for the head of the config. stages: as in the config's ``recipe``."""

    name: str
    arch: str
    why: str
    stages: list[dict]
    folds: list[int]
    views: int  # of test-time augmentation, beside the plain one


class Budget(NamedTuple):
    """What was asked for: a quality, or hours; never both."""

    quality: str = "good"
    hours: float | None = None


class Choice(NamedTuple):
    """A rung, what it is forecast to cost (seconds), and, where hours were given, whether it fits and the next one's cost."""

    recipe: Recipe
    seconds: float
    fits: bool = True
    next_rung: tuple[str, float] | None = None


def read_budget(quality: str = "", hours: str = "") -> Budget:
    """The budget that QUALITY= and HOURS= ask for; `good` where neither is given. Raises UserError for what cannot be meant."""
    if quality and hours:
        raise UserError(
            f"QUALITY={quality} HOURS={hours}: give one of them; HOURS takes the best quality that fits into them"
        )
    if quality and quality not in QUALITIES:
        raise UserError(f"QUALITY={quality}: not a quality; say one of {', '.join(QUALITIES)}")
    if not hours:
        return Budget(quality or "good")
    try:
        number = float(hours)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"HOURS={hours}: not a number of hours above 0; say 2, or 0.5 for half an hour")
    return Budget(hours=number)


# ---- what follows from the numbers


def is_few(job: Job) -> bool:
    """Whether there are too few images for a stage of all layers: few in all, or of a class."""
    return job.labelled < max(FEW, FEW_OF_A_CLASS * job.classes)


def sizes_for(short_side: int | None) -> list[int]:
    """The sizes to train at, small first: 224 then 299 for photographs, less where the images hold no more."""
    if short_side is None or short_side >= 250:
        return [224, 299]
    top = max(32, round(short_side * 1.15 / 32) * 32)  # a little more than there is: the last map needs some room
    return [top] if top <= 96 else [max(64, top // 2 // 32 * 32), top]


def _networks(job: Job) -> tuple[str, str, str]:
    """The networks of quick, good and best: what a CPU takes hours for costs a GPU minutes."""
    good = "resnet18" if is_few(job) else "resnet34"
    return ("resnet34", good, "resnext101_64x4d") if job.gpu else ("mobilenet_v2", good, "resnext50_32x4d")


def _stages(job: Job, sizes: Sequence[int], all_layers: int) -> list[dict]:
    """The course's stages at some sizes: linear, heads and, at the first ``all_layers`` of the sizes, all layers.

    Where images have no upright position the linear layer is fitted once more, on eight views (docs/experiments.md).
    """
    cycles = 2 if job.labelled < SOME else 3
    upright = job.preset != "top_down"
    found = []
    for number, size in enumerate(sizes):
        mark = f"_{size}" if number else ""
        rate_of = {"lr": "head"} if number and all_layers else {}
        frozen = number == 0 or not all_layers  # the starting trunk, which a linear layer lies on
        if frozen:
            found.append({"name": f"linear{mark}", "size": size, "train": "linear", "augment": False})
        if frozen and not upright:
            found.append({"name": f"linear_views{mark}", "size": size, "train": "linear", "cycles": MORE_TTA_VIEWS})
        if number == 0:
            found.append({"name": "head_plain", "size": size, "train": "head", "augment": False})
        found.append({"name": f"head{mark}", "size": size, "train": "head", "cycles": 3, **rate_of})
        if number < all_layers:
            ratio = {} if upright else {"lr_ratio": 3}
            rate = {"lr": "all"} if number else {}
            course = {"cycles": cycles, "cycle_mult": 2, **ratio, "snapshots": True, **rate}
            found.append({"name": f"all{mark}", "size": size, "train": "all", **course})
    return found


def ladder(job: Job) -> list[Recipe]:
    """The recipes for a job, from the cheapest to the dearest; among them are `QUALITIES`, the first and the last."""
    sizes, (small, middle, large) = sizes_for(job.short_side), _networks(job)
    first, every = sizes[:1], [0] if job.split_given else list(range(FOLDS))
    averaged = "" if job.split_given else "; five folds, averaged"
    quick_stages = [
        {"name": "linear", "size": sizes[0], "train": "linear", "augment": False},
        {"name": "head_plain", "size": sizes[0], "train": "head", "augment": False},
    ]
    quick = Recipe("quick", small, "a linear layer and a head on plain activations", quick_stages, [0], 0)
    if is_few(job):
        why = "few images: a linear layer and heads; stages of all layers did not help so few (docs/experiments.md)"
        short, both = _stages(job, first, 0), _stages(job, sizes, 0)
        rungs = [
            Recipe("good", middle, why, short, [0], TTA_VIEWS),
            Recipe("large", large, why, both, [0], TTA_VIEWS),
            Recipe("best", large, why + averaged, both, every, MORE_TTA_VIEWS),
        ]
    else:
        heads, one, course = _stages(job, first, 0), _stages(job, first, 1), _stages(job, sizes, len(sizes))
        epochs = "1 + 2" if job.labelled < SOME else "1 + 2 + 4"
        why = f"the course's stages, {epochs} epochs of all layers at each size"
        rungs = [
            Recipe("heads", middle, "a linear layer and heads", heads, [0], TTA_VIEWS),
            *([Recipe("one_size", middle, f"{why}, but one size", one, [0], TTA_VIEWS)] if len(sizes) > 1 else []),
            Recipe("good", middle, why, course, [0], TTA_VIEWS),
            Recipe("large", large, why, course, [0], TTA_VIEWS),
            Recipe("best", large, why + averaged, course, every, MORE_TTA_VIEWS),
        ]
    return [quick, *rungs]


def best_within(rungs: Sequence[Recipe], seconds_of: Callable[[Recipe], float], seconds: float) -> Choice:
    """The last of the rungs that fit, with all before it, into ``seconds``: so more seconds never choose an earlier one.

    Rungs are asked for in their order, none after the first that does not fit. Where the first does not, it is chosen.
    """
    chosen: Choice | None = None
    for recipe in rungs:
        cost = seconds_of(recipe)
        if cost > seconds:
            return chosen._replace(next_rung=(recipe.name, cost)) if chosen else Choice(recipe, cost, fits=False)
        chosen = Choice(recipe, cost)
    return chosen


def choose(job: Job, budget: Budget, seconds_of: Callable[[Recipe], float]) -> Choice:
    """The recipe that a budget asks for, with its forecast."""
    rungs = ladder(job)
    if budget.hours is not None:
        return best_within(rungs, seconds_of, budget.hours * 3600)
    recipe = next(rung for rung in rungs if rung.name == budget.quality)
    return Choice(recipe, seconds_of(recipe))
