"""Every job of a run: its rule and the values of its wildcards. A pure function of the plan; does not import torch.

Snakemake knows its jobs only once all their inputs are named, and the table of times has the benchmark of every job as an
input. So the jobs are listed here, from the plan that the rules read too; a test compares the list with Snakemake's own.
"""

from collections.abc import Iterator
from typing import NamedTuple

from eightfold.config.plan import Plan
from eightfold.core.shards import names

DIVIDED = ("pixels", "activations", "activations_tuned", "predict")  # rules whose work has parts, by a rule <name>_part


class Job(NamedTuple):
    """``wildcards``: by name, in the order in which they stand in the path of the rule's first output."""

    rule: str
    wildcards: dict[str, str]


def jobs_of(plan: Plan) -> list[Job]:
    """The jobs that `submission` makes, or `evaluate` without test images, but for `timings` and `report`, which come last."""
    every = [*_of_data(plan), *_of_stages(plan), *_of_answers(plan)]
    return list({(job.rule, *job.wildcards.values()): job for job in every}.values())


def jobs_of_all_targets(plan: Plan) -> list[Job]:
    """The jobs of every target, so that whatever lies in the folders of a run is some job's; each once."""
    after = [
        "timings",
        "report",
        "compare",
        "model_card",
        "predict_new",
        "submit",
        "quick_answer",
        "write_quick_submission",
    ]
    every = [*jobs_of(plan), *(Job(rule, {}) for rule in [*after, "track_tensorboard", "track_mlflow"])]
    every += [Job("export_model", {"format": name}) for name in ("pt2", "onnx")]
    every += [Job("gzip_submission", {"name": name}) for name in ("submission", "submission_quick")]
    for stage in plan.trained_stages:
        for fold in plan.finder_folds:
            every += [Job(rule, {"fold": fold, "stage": stage}) for rule in ("find_lr", "draw_lr_find")]
    every += [*_of_quick(plan), *_of_trunks(plan)]
    return list({(job.rule, *job.wildcards.values()): job for job in every}.values())


def _of_quick(plan: Plan) -> Iterator[Job]:
    stage, size = plan.quick_stage, plan.known[plan.quick_stage]["size"]
    _, kind, key = plan.activations_folder(size, 0, 0).rsplit("-", 2)
    yield from _in_parts(plan, "activations", kind=kind, key=key, first=0, last=0)
    yield from (Job("fit_linear", {"fold": fold, "stage": stage}) for fold in plan.folds)


def _of_trunks(plan: Plan) -> Iterator[Job]:
    yield from (Job("weights", {"key": key}) for key in plan.starting_weights)
    for racer in plan.racers if plan.held_out else []:
        for path in plan.activations_of_racer(racer):
            _, kind, key = path.rpartition("/")[0].rsplit("-", 2)
            yield from _in_parts(plan, "activations", kind=kind, key=key, first=0, last=0)
        yield from (Job("fit_linear_of_trunk", {"racer": racer, "fold": fold}) for fold in plan.held_out)
    if plan.held_out:
        yield Job("compare_trunks", {})


def _in_parts(plan: Plan, rule: str, **wildcards) -> Iterator[Job]:
    """A job that can be divided, after the jobs of its parts where it is."""
    wildcards = {name: str(value) for name, value in wildcards.items()}
    yield from (Job(f"{rule}_part", {**wildcards, "part": part}) for part in names(plan.shards))
    yield Job(rule, wildcards)


def _of_data(plan: Plan) -> Iterator[Job]:
    if plan.is_demo:
        yield Job("demo", {})
    if plan.is_kaggle:
        yield Job("kaggle_data", {"competition": plan.config["data"]["competition"]})
    yield Job("manifest", {})
    if plan.has_test:
        yield Job("check_submission", {})
    yield from (Job(rule, {}) for rule in ("duplicates", "folds", "check_job"))
    yield from (Job(rule, {}) for rule in ("explore_data", "show_augmentation"))
    for key in plan.short_sides:
        yield from _in_parts(plan, "pixels", key=key)
    yield Job("weights", {"key": plan.weights_folder.rpartition("-")[2]})


def _of_stages(plan: Plan) -> Iterator[Job]:
    for stage, settings in plan.stages.items():
        trunk = plan.trunk_stage(stage)
        for first, last in plan.views(stage) if settings["train"] != "all" else []:
            views = {"first": first, "last": last}
            if trunk is None:
                _, kind, key = plan.activations_folder(settings["size"], first, last).rsplit("-", 2)
                yield from _in_parts(plan, "activations", kind=kind, key=key, **views)
            for fold in plan.folds if trunk else []:
                yield from _in_parts(plan, "activations_tuned", fold=fold, stage=trunk, size=settings["size"], **views)
        for fold in plan.finder_folds if stage in plan.auto_stages else []:
            yield from (Job(rule, {"fold": fold, "stage": stage}) for rule in ("find_lr", "draw_lr_find"))
        for fold in plan.folds:
            rules = ("fit_linear", "draw_strength") if plan.is_linear(stage) else ("train",)
            yield from (Job(rule, {"fold": fold, "stage": stage}) for rule in rules)
    if plan.trained_stages:
        yield Job("draw", {})


def _of_answers(plan: Plan) -> Iterator[Job]:
    for split in plan.splits:
        for fold in plan.predicted(split):
            yield from _in_parts(plan, "predict", fold=fold, split=split)
    yield from (Job(rule, {}) for rule in ("choose", "score", "review", "insight"))
    if plan.has_test:
        yield Job("write_submission", {})
        if plan.config["submission"]["gzip"]:
            yield Job("gzip_submission", {"name": "submission"})
    yield from (Job(f"track_{name}", {}) for name in plan.config["tracking"])
