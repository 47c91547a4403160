"""What a run will cost: seconds, hours of a GPU and bytes, from what earlier jobs of this machine took. Does not import torch.

A job's time is START + work * rate. Work is counted in what the job's time grows with (images, megapixels through the
network); the rate is the median over earlier jobs of the same kind and architecture, measured by Snakemake's benchmark files,
or, where there was none, stated below.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eightfold.config.jobs import Job
from eightfold.config.plan import Plan
from eightfold.config.schedules import batches_of, finder_steps, repeats, stage_epochs, trial_steps
from eightfold.core.files import UserError, read_json
from eightfold.upkeep.disk_space import counted, images_of, needed

START = 3.0  # seconds until Python, torch and the script are there
BACKWARD = 3  # a training step computes three times what a forward pass does
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
# Seconds for a unit of work, by (a CPU of two cores, a GPU of 2023): mobilenet-like at bfloat16 on the GPU. Rough.
STATED = {
    "manifest": (5e-3, 1e-3),
    "pixels": (1e-2, 2e-3),
    "network": (0.25, 0.004),  # a megapixel forward
    "head": (2e-4, 2e-5),  # a vector of activations, forward and backward
    "linear": (1e-2, 1e-3),  # a vector of activations in all fits of a linear stage
}
OTHERS = 10.0  # seconds of a rule that looks, draws or reports


class Work(NamedTuple):
    """amount: of units that ``kind`` counts; None: a job whose time grows with nothing that is known."""

    kind: str
    amount: float | None


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


def work_of(rule: str, settings: Mapping, wildcards: Mapping[str, str], images: Counter) -> Work:
    """The work of a job, from its rule, its settings and the number of images."""
    whole, labelled = images.total(), images["labelled"]
    share = 1 / int(wildcards["part"].split("_of_")[1]) if "part" in wildcards else 1
    rule = rule.removesuffix("_part")
    if rule in ("manifest", "pixels"):
        return Work(rule, whole * share)
    if rule in ("activations", "activations_tuned"):
        views = settings["last"] - settings["first"] + 1
        rows = labelled if settings["first"] or rule == "activations_tuned" else whole
        return Work("network", rows * views * settings["size"] ** 2 / 1e6 * share)
    if rule == "fit_linear":
        return Work("linear", labelled * (1 + len(settings["views"])))
    if rule == "predict":
        rows = images["test"] if wildcards["split"] == "test" else labelled / 5
        return Work("network", rows * (1 + settings["views"]) * settings["size"] ** 2 / 1e6 * share)
    if rule in ("find_lr", "train"):
        stage, batches = settings["stage"], batches_of(labelled, settings["batch_size"])
        whole_net = stage["train"] == "all"
        if rule == "train":
            epochs = stage_epochs(stage) * repeats(stage, batches)
        else:  # more than one where there are few images
            epochs = finder_steps(settings["lr_find"]["steps"], batches, stage) / batches
            epochs += trial_steps(stage, batches) / batches if settings.get("trials") else 0
        if not whole_net:
            return Work("head", labelled * epochs)
        return Work("network", labelled * epochs * BACKWARD * stage["size"] ** 2 / 1e6 / stage.get("gpus", 1))
    return Work(rule, None)


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
        return {"size": int(size), "first": int(words["first"]), "last": int(words["last"])}
    return plan.predict_settings() if rule == "predict" else {}


class Rates:
    """Seconds a unit of work, from the benchmark files below a folder."""

    def __init__(self, results: Path):
        self.jobs: dict[tuple, list[float]] = defaultdict(list)  # seconds of jobs whose time grows with nothing known
        self.units: dict[tuple, list[float]] = defaultdict(list)  # seconds a unit
        for path in sorted(results.rglob("*.jsonl")):
            try:
                self._learn(json.loads(path.read_text().splitlines()[-1]))
            except (ValueError, LookupError, TypeError, OSError, UserError):
                continue  # of another version, or half written

    def _learn(self, job: dict) -> None:
        rule, settings = job["rule_name"], job["params"].get("settings", {})
        self.jobs[rule.removesuffix("_part"),].append(job["s"])

        def read(pattern: str) -> str | None:
            return next((path for path in job["input_size_mb"] if re.search(pattern, path)), None)

        data, weights = read(r"data-\w+/manifest\.json$"), read(r"weights-\w+/weights\.json$")
        images = counted(read_json(data)["counts"]) if data else Counter()
        # The settings of activations do not name the network, whose weights they read.
        arch = settings.get("arch") or (read_json(weights)["arch"] if weights else None)
        work = work_of(rule, settings, job["wildcards"] or {}, images)
        if work.amount:
            rate = max(0.0, job["s"] - START) / work.amount
            self.units[work.kind, arch].append(rate)

    def seconds(self, rule: str, work: Work, arch: str, gpu: bool) -> tuple[float, str]:
        """Estimate for a job, and where it comes from: `measured` or `stated`."""
        if work.amount is None:
            known = self.jobs.get((rule,))
            return (median(known), "measured") if known else (OTHERS, "stated")
        for key in ((work.kind, arch), (work.kind, None)):
            if rates := self.units.get(key):
                return START + work.amount * median(rates), "measured"
        return START + work.amount * STATED[work.kind][gpu], "stated"


def shape_of(plan: Plan) -> tuple[int, int]:
    """Width of the pooled vector of the run's trunk and bytes of its weights: as they are, where they are there; else those of a resnet50."""
    folder = Path(plan.weights_folder)
    try:
        width = read_json(folder / "weights.json")["width"]
        return width, (folder / "trunk.safetensors").stat().st_size
    except (OSError, LookupError, UserError):
        return 4096, 94_000_000


def table(plan: Plan, jobs: list[Job], results: Path) -> str:
    """Jobs by rule with their seconds, hours of the device and disk: lines for a terminal."""
    images, rates, gpu, arch = images_of(plan), Rates(results), plan.devices > 0, plan.arch
    rows: dict[str, list] = {}
    device_s = 0.0
    for job in jobs:
        work = work_of(job.rule, settings_of(plan, job), job.wildcards, images)
        seconds, source = rates.seconds(job.rule.removesuffix("_part"), work, arch, gpu)
        row = rows.setdefault(job.rule, [0, 0.0, set()])
        row[0] += 1
        row[1] += seconds
        row[2].add(source)
        if job.rule.removesuffix("_part") in DEVICE_RULES:
            held = plan.gpus(job.wildcards["stage"]) if job.rule == "train" else 1
            device_s += seconds * max(1, held)
    lines = [f"{'rule':<24}{'jobs':>6}{'seconds':>10}   estimate"]
    lines += [f"{rule:<24}{n:>6}{s:>10.0f}   {', '.join(sorted(of))}" for rule, (n, s, of) in rows.items()]
    total = sum(row[1] for row in rows.values())
    lines.append(f"{'all':<24}{len(jobs):>6}{total:>10.0f}   one after another; {images.total():,} images")
    name = "GPU-hours" if gpu else "hours of the CPU as device (no GPU here; 0 GPU-hours)"
    lines.append(f"{name}: {device_s / 3600:.2g}")
    disk: Counter = Counter()
    for large in needed(plan, images, *shape_of(plan)):
        disk[large.kind] += large.bytes / 1e6
    parts = ", ".join(f"{kind} {size:,.0f} MB" for kind, size in disk.items())
    lines.append(f"disk when all is there: {disk.total():,.0f} MB ({parts})")
    if not images:
        lines.append("How many images there are is not known yet: seconds and disk leave them out")
    return "\n".join(lines)
