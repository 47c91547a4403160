"""What a run will cost: seconds, hours of a GPU and bytes. Does not import torch.

The seconds of a job are those of `rates` for the work that it is (`work`); those of the run add up its jobs, of which those
that take one core go on side by side.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eightfold.config.guess import Layout
from eightfold.config.jobs import Job, jobs_of
from eightfold.config.new_config import Cost
from eightfold.config.plan import Plan
from eightfold.core.files import UserError, read_json
from eightfold.core.wording import time_text
from eightfold.upkeep.disk_space import count_all, images_of, needed
from eightfold.upkeep.rates import Estimate, Rates
from eightfold.upkeep.work import settings_of, work_of

DEVICE_RULES = {
    "activations",
    "activations_tuned",
    "find_lr",
    "train",
    "fit_linear",
    "predict",
    "insight",
    "predict_new",
}
LAST_RULES = ("timings", "report")  # which `jobs_of` leaves out
SNAKEMAKE = 4.0  # seconds until it has read its rules and the data's listing


class Expected(NamedTuple):
    """A job and its seconds. alone: whether it takes all cores of the machine, or its GPU, so that no other job of it runs beside it."""

    job: Job
    estimate: Estimate
    alone: bool


def first_outputs(rules: Path) -> dict[str, re.Pattern]:
    """For each rule of the `.smk` files in a folder, what the path of its first output looks like: a group for each wildcard."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(rules.glob("*.smk")))
    found = {}
    for rule in re.split(r"^(?=rule |use rule )", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"(?:use rule \w+ as|rule) (\w+)", rule)[1]
        if output := re.search(r'^    output:\n([^"]*)"(?:<\w+>/)?([^"]*)"', rule, re.MULTILINE):
            group = "(?:" if "collect(" in output[1] else r"(?P<\1>"  # what is collected is no wildcard of the rule
            pattern = re.sub(r"\\\{(\w+)\\\}", rf"{group}[\\w-]+?)", re.escape(output[2]))
            found[name] = re.compile(f"(?:^|/){pattern}$")
    return found


def planned(summary: Iterable[str], outputs: Mapping[str, re.Pattern]) -> list[Job]:
    """The jobs that `snakemake --summary` means to run: of the lines of a job, one for each output, the first's counts.

    ``outputs``: of `first_outputs`.
    """
    header, *lines = [line.rstrip("\n").split("\t") for line in summary if "\t" in line]
    path, rule, plan = (header.index(name) for name in ("output_file", "rule", "plan"))
    found = {}
    for line in lines:
        first = outputs[line[rule]].search(line[path])
        if first and line[plan] != "no update":
            found[line[rule], *first.groups()] = Job(line[rule], first.groupdict())
    return list(found.values())


def expected(plan: Plan, jobs: Iterable[Job], images: Counter, rates: Rates) -> list[Expected]:
    """The jobs with their seconds. images: as `disk_space.images_of` gives them."""
    arch, gpu, folds = plan.arch, plan.devices > 0, plan.config["split"]["folds"]
    found, computed = [], set()
    for job in jobs:
        settings = settings_of(plan, job)
        work = work_of(job.rule, settings, job.wildcards, images, folds)
        if job.rule == "activations":  # a view of another such file is taken from there (inputs.activations_needed)
            views = {(job.wildcards["key"], view) for view in range(settings["first"], settings["last"] + 1)}
            work = work._replace(amount=work.amount * len(views - computed) / len(views))
            computed |= views
        rule = job.rule.removesuffix("_part")
        alone = rule in DEVICE_RULES or rule in ("manifest", "pixels")
        found.append(Expected(job, rates.estimate(job.rule, work, arch, gpu), alone))
    return found


def run_seconds(found: Sequence[Expected], cores: int) -> float:
    """Seconds of the whole run on a machine of so many cores where nothing else runs, with Snakemake's start."""
    alone = sum(one.estimate.seconds for one in found if one.alone)
    others = [one.estimate.seconds for one in found if not one.alone]
    return SNAKEMAKE + alone + max(sum(others) / max(1, cores), max(others, default=0.0))


def device_hours(plan: Plan, found: Sequence[Expected]) -> float:
    """Hours that jobs hold a GPU, each of theirs; without a GPU, hours of the CPU as device."""

    def held(job: Job) -> int:
        return plan.gpus(job.wildcards["stage"]) if job.rule == "train" else 1

    return sum(
        one.estimate.seconds * max(1, held(one.job)) / 3600
        for one in found
        if one.job.rule.removesuffix("_part") in DEVICE_RULES
    )


def disk_of(plan: Plan, images: Counter) -> Counter:
    """Bytes by kind of what the run's large files take when all are there."""
    disk: Counter = Counter()
    for large in needed(plan, images, *shape_of(plan)):
        disk[large.kind] += large.bytes
    return disk


def shape_of(plan: Plan) -> tuple[int, int]:
    """Width of the pooled vector of the run's trunk and bytes of its weights: as they are, where they are there; else those of a resnet50."""
    folder = Path(plan.weights_folder)
    try:
        width = read_json(folder / "weights.json")["width"]
        return width, (folder / "trunk.safetensors").stat().st_size
    except (OSError, LookupError, UserError):
        return 4096, 94_000_000


def sources_of(found: Iterable[Expected]) -> str:
    """Where the seconds come from, that of the most seconds first: "timed, stated"."""
    by_source: Counter = Counter()
    for one in found:
        by_source[one.estimate.source] += one.estimate.seconds
    return ", ".join(source for source, _ in by_source.most_common())


def cores_text(cores: int) -> str:
    return f"{cores} core{'s' * (cores != 1)}"


def forecaster(rates: Rates, cores: int) -> Callable[[dict, Layout], Cost]:
    """What forecasts the whole run of a resolved config on a layout's images, for `new_config`."""

    def forecast(config: dict, layout: Layout) -> Cost:
        plan = Plan(config)
        valid = images_of(plan)["valid"]
        images = Counter(labelled=layout.labelled + valid, test=layout.test, valid=valid)
        jobs = [*jobs_of(plan), *(Job(rule, {}) for rule in LAST_RULES)]
        found = expected(plan, jobs, images, rates)
        device = f"{plan.devices} GPU(s)" if plan.devices else "no GPU"
        on = f"on {cores_text(cores)} and {device} where nothing else runs (rates: {sources_of(found)})"
        return Cost(run_seconds(found, cores), disk_of(plan, images).total() / 1e6, on)

    return forecast


def table(plan: Plan, jobs: Iterable[Job], rates: Rates, cores: int) -> str:
    """Jobs by rule with their seconds, the run's time on so many cores, hours of the device and disk: lines for a terminal."""
    images, gpu = images_of(plan), plan.devices > 0
    found = expected(plan, jobs, images, rates)
    by_rule: dict[str, list[Expected]] = {}
    for one in found:
        by_rule.setdefault(one.job.rule, []).append(one)
    lines = [f"{'rule':<24}{'jobs':>6}{'seconds':>10}   estimate"]
    for rule, of_rule in by_rule.items():
        seconds = sum(one.estimate.seconds for one in of_rule)
        lines.append(f"{rule:<24}{len(of_rule):>6}{seconds:>10.0f}   {sources_of(of_rule)}")
    total = sum(one.estimate.seconds for one in found)
    lines.append(f"{'all':<24}{len(found):>6}{total:>10.0f}   one after another; {count_all(images):,} images")
    lines.append(f"time: about {time_text(run_seconds(found, cores))} on {cores_text(cores)} where nothing else runs")
    name = "GPU-hours" if gpu else "hours of the CPU as device (no GPU here; 0 GPU-hours)"
    lines.append(f"{name}: {device_hours(plan, found):.2g}")
    disk = disk_of(plan, images)
    parts = ", ".join(f"{kind} {size / 1e6:,.0f} MB" for kind, size in disk.items())
    lines.append(f"disk when all is there: {disk.total() / 1e6:,.0f} MB ({parts})")
    if not images:
        lines.append("How many images there are is not known yet: seconds and disk leave them out")
    return "\n".join(lines)
