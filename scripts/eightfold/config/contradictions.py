"""Keys of the config that contradict one another, each of them right by itself. Must not import torch: the Snakefile imports it."""

import re
from collections.abc import Iterator

from eightfold.config.schedules import stage_epochs
from eightfold.config.schema import is_table, load_schema, shown

MOST_EPOCHS = 10_000  # of one stage; more is a slip of the keyboard

Problem = tuple[str, str]  # dotted key, what is wrong with it


def contradictions(config: object, wrong: set[str]) -> Iterator[Problem]:
    """Problems between keys that are each right: a check that reads a key in ``wrong``, or near it, is left out."""
    checks = {
        _data: ["data"],
        _split: ["split", "data.valid"],
        _finder: ["lr_find.start", "lr_find.end"],
        _tta: ["tta"],
        _model: ["model.arch", "model.weights"],
        _recipe: ["recipe"],
        _ensemble: ["recipe", "ensemble", "run", "split"],
    }
    bad = [f"{key.replace('[', '.[')}." for key in wrong if key]
    for check, reads in checks.items():
        if "" not in wrong and not any(
            key.startswith(f"{read}.") or f"{read}.".startswith(key) for key in bad for read in reads
        ):
            yield from check(config)


def _data(config: dict) -> Iterator[Problem]:
    data = config["data"]
    source = data["source"]
    if source == "demo" and data["root"] is not None:
        yield (
            "data.source",
            f"is demo, which takes no data.root ({shown(data['root'])}); allowed with it: folders, csv, filename or coco",
        )
    if source == "kaggle":
        if data["competition"] is None:
            yield "data.competition", "is missing; with data.source kaggle it names what is downloaded"
        if data["root"] is not None:
            yield (
                "data.root",
                f"is {shown(data['root'])}; a competition's files have a place of their own; allowed: null",
            )
        source = data["layout"]
    elif source != "demo" and data["root"] is None:
        yield "data.root", f"is missing; with data.source {source} it is the folder that holds the data"
    several = isinstance(data["label"], list)
    for key in ("label", "group", "fold"):
        given = data[key] if isinstance(data[key], list) else [data[key]]
        if source == "csv" and data["id"] in given:
            yield f"data.{key}", f"is {shown(data[key])}, with data.id in it; allowed: another column"
    if several and source != "csv":
        yield "data.label", f"is a list; allowed with data.source {source}: one name (a column per class is of csv)"
    if data["separator"] is not None and (several or source == "coco"):
        yield "data.separator", "is given; allowed with a column per class, or coco: null"
    if data["multi"] is not None and (source not in ("csv", "coco") or (source == "csv" and not several)):
        yield "data.multi", f"is {shown(data['multi'])}; allowed but with a column per class, or coco: null"
    if data["ordered"] and (data["separator"] is not None or data["multi"]):
        yield "data.ordered", "is true; allowed where an image has several labels: false"
    if (data["pattern"] is None) != (source != "filename"):
        named = "is missing; it finds" if source == "filename" else "is for data.source filename, where it finds"
        yield "data.pattern", f"{named} the label in a file name: a regular expression with a group (?P<label>...)"
    if data["pattern"] is not None:
        yield from _pattern(data["pattern"])
    for key in ("group", "fold"):
        if data[key] is not None and source not in ("csv", "coco"):
            yield f"data.{key}", f"is a column, and data.source {source} has none; allowed with it: null"
    if data["range"] is not None and data["range"][0] >= data["range"][1]:
        yield "data.range", f"is {shown(data['range'])}; allowed: the value of black, then a larger one of white"
    if is_table(data, data["test"] or "") and data["test_images"] is None:
        yield "data.test_images", f"is missing; with the list {data['test']} it is the folder of the test images"


def _pattern(pattern: str) -> Iterator[Problem]:
    known = {"label", "id", "group", "fold"}
    try:
        groups = set(re.compile(pattern).groupindex)
    except (re.error, RecursionError, OverflowError) as error:
        yield "data.pattern", f"is {shown(pattern)}, no regular expression ({error})"
        return
    if "label" not in groups or not groups <= known:
        odd = f"the group {min(groups - known)!r}" if groups - known else "no group (?P<label>...)"
        yield "data.pattern", f"is {shown(pattern)}, which has {odd}; allowed: label, and if need be id, group, fold"


def _split(config: dict) -> Iterator[Problem]:
    use, folds, valid = config["split"]["use"], config["split"]["folds"], config["data"]["valid"]
    if valid is not None and use not in ([0], "all"):
        yield (
            "split.use",
            f"is {shown(use)}; with data.valid {valid} there is one split; allowed: [0] or all",
        )
    elif use != "all" and config["split"]["method"] != "given" and max(use) >= folds:
        yield "split.use", f"is {shown(use)}; allowed with {folds} folds: numbers from 0 to {folds - 1}"
    if use == "all" and config["split"]["submit"] == "both":
        yield "split.submit", "is 'both'; with split.use all there are no folds to submit; allowed: folds or all"


def _finder(config: dict) -> Iterator[Problem]:
    start, end = config["lr_find"]["start"], config["lr_find"]["end"]
    if start >= end:
        yield "lr_find.end", f"is {shown(end)}; allowed: above lr_find.start, which is {start}"


def _model(config: dict) -> Iterator[Problem]:
    arch, weights = config["model"]["arch"], config["model"]["weights"]
    archs = [arch] if isinstance(arch, str) else arch
    if isinstance(weights, list) and len(weights) != len(archs):
        yield (
            "model.weights",
            f"lists {len(weights)}, where model.arch names {len(archs)}; allowed: one for each, or one word for all",
        )
    if len(archs) != len(set(archs)):
        yield "model.arch", f"is {shown(arch)}, with a network twice; allowed: each once"


def _tta(config: dict) -> Iterator[Problem]:
    if config["tta"]["weights"] == "plain_quarter" and config["tta"]["views"] == 0:
        yield (
            "tta.weights",
            "is 'plain_quarter', which gives 0.75 to random views; allowed without any (tta.views 0): equal",
        )


def _recipe(config: dict) -> Iterator[Problem]:
    names: list[str] = []
    linear: set[str] = set()
    for index, stage in enumerate(config["recipe"]):
        here = f"recipe[{index}]"
        if stage["name"].lower() in map(str.lower, names):  # some file systems take Head and head for one folder
            yield f"{here}.name", f"is {shown(stage['name'])}; an earlier stage has it; allowed: a name of its own"
        if isinstance(stage["lr"], str) and stage["lr"] not in ["auto", *names]:
            earlier = f"the name of an earlier stage ({', '.join(names) or 'there is none'})"
            yield f"{here}.lr", f"is {shown(stage['lr'])}; allowed: auto, a number, three numbers, or {earlier}"
        if stage["from"] is not None and stage["from"] not in names:
            earlier = f"null, or the name of an earlier stage ({', '.join(names) or 'there is none'})"
            yield f"{here}.from", f"is {shown(stage['from'])}; allowed: {earlier}"
        if stage["train"] == "linear":
            yield from _linear(stage, here)
        elif isinstance(stage["lr"], str) and stage["lr"] in linear:
            yield f"{here}.lr", f"is {shown(stage['lr'])}, a linear stage, which has no rate; allowed: another stage"
        if stage_epochs(stage) > MOST_EPOCHS:
            numbers = ", ".join(f"{key} {stage[key]}" for key in ("cycles", "cycle_len", "cycle_mult"))
            yield f"{here}.cycles", f"makes more than {MOST_EPOCHS} epochs ({numbers}); allowed: up to {MOST_EPOCHS}"
        for key in ("mixup", "cutmix"):
            if stage[key] and stage["train"] == "head":
                yield f"{here}.{key}", f"is {stage[key]}, but a head stage learns on activations; allowed: 0"
        if stage["min_steps"] and stage["train"] == "all":
            yield (
                f"{here}.min_steps",
                f"is {stage['min_steps']}, a floor for head stages, which repeat views from the cache; allowed with train all: "
                "0 or null (cycle_len and cycles make it longer)",
            )
        yield from _fine_tuning(stage, here)
        if stage["schedule"] == "one_cycle" and stage["cycles"] > 1:
            yield f"{here}.schedule", "is 'one_cycle'; allowed with cycles 1 (cycle_len gives its epochs)"
        if stage["averaging"] == "swa" and stage["cycles"] == 1:
            yield f"{here}.averaging", "is 'swa', the mean over the cycles' ends; allowed with 2 cycles or more"
        names.append(stage["name"])
        linear |= {stage["name"]} if stage["train"] == "linear" else set()


def _fine_tuning(stage: dict, here: str) -> Iterator[Problem]:
    """Options of a stage trained in steps that leave one another without a meaning."""
    if stage["layer_decay"] is not None:
        if stage["train"] == "head":
            yield f"{here}.layer_decay", f"is {stage['layer_decay']}, but a head has one rate; allowed: null"
        if stage["lr_ratio"] != load_schema()["properties"]["recipe"]["items"]["properties"]["lr_ratio"]["default"]:
            yield (
                f"{here}.layer_decay",
                f"is {stage['layer_decay']}, beside lr_ratio {stage['lr_ratio']:g}; allowed: one of the two",
            )
        if isinstance(stage["lr"], list):
            yield f"{here}.layer_decay", f"is {stage['layer_decay']}, beside a list of rates; allowed: one of the two"
    if stage["warmup"] and stage["schedule"] == "one_cycle":
        yield f"{here}.warmup", f"is {stage['warmup']}, but one_cycle has a warm-up of its own; allowed: 0"
    if stage["until"]:
        if stage["cycles"] < 2:
            yield (
                f"{here}.until",
                "is 'over_fitting', which says after which cycle to stop; allowed with 2 cycles or more",
            )
        if stage["averaging"] != "none":
            yield f"{here}.until", f"is 'over_fitting', beside averaging {stage['averaging']}; allowed: one of the two"
        if stage["snapshots"]:
            yield (
                f"{here}.until",
                "is 'over_fitting', which keeps the best cycle alone, beside snapshots: true; allowed: one of the two",
            )


def _linear(stage: dict, here: str) -> Iterator[Problem]:
    """Keys that mean nothing to a stage that is fitted, not trained in steps."""
    means = {"name", "size", "train", "from", "augment", "first_view", "cycles", "cycle_len", "cycle_mult"}
    for key, schema in load_schema()["properties"]["recipe"]["items"]["properties"].items():
        if "default" not in schema or stage[key] == schema["default"]:
            continue
        if key not in means:
            yield (
                f"{here}.{key}",
                f"is {shown(stage[key])}, but a linear stage is not trained in steps; leave the key out",
            )
        elif key not in ("augment", "from") and not stage["augment"]:
            yield (
                f"{here}.{key}",
                f"is {shown(stage[key])}, which in a linear stage says how many random views there are; leave the key "
                "out, or set augment: true",
            )


def _ensemble(config: dict) -> Iterator[Problem]:
    last, members = config["recipe"][-1], config["ensemble"]["members"]
    if members == "snapshots" and not last["snapshots"]:
        yield "ensemble.members", f"is 'snapshots'; allowed where the last stage ({last['name']}) has snapshots: true"
    if config["run"] in config["ensemble"]["runs"]:
        yield "ensemble.runs", f"names {config['run']}, which is this run; allowed: other runs"
