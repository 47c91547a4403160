"""The plan of a run: which files it makes, where, and the part of the config that each of them depends on.

Pure functions of a resolved config. It must not import torch: the Snakefile imports it. What the params of a rule hold is in
the method named after the rule, `<rule>_settings`. Paths are relative to the working folder;
what runs share lies under `results/cache`, in folders named by a digest of what made them.
"""

import os
import re
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from eightfold.config.racers import Racer, racers_of
from eightfold.config.schedules import stage_epochs
from eightfold.core.files import UserError, digest, fingerprint
from eightfold.core.listing import Entry, data_files, files_below, listing_digest
from eightfold.core.networks import PACKAGE, TOGETHER, is_path, networks_of
from eightfold.core.shards import names, parts_for

CACHE = "results/cache"
DEMO_ROOT = f"{CACHE}/demo/data"
DEV = Path("/dev")


def short_side_for(size: int) -> int:
    """Short side (px) of the pixel cache for images trained at ``size`` px: 256 for 224, 340 for 299.

    An eighth more than ``size``, as in the recipe, so that a zoom of 1.1 still samples at most one pixel per pixel.
    """
    return size * 8 // 7 // 4 * 4


def installed(package: str) -> str | None:
    """The version of an installed package, read without importing it; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def as_list(given: str | list[str]) -> list[str]:
    """`model.arch` or `model.weights` as a list."""
    return [given] if isinstance(given, str) else given


def _sorted(value):
    """The same value with the keys of its dicts sorted: Snakemake compares params by their text."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _root(root: str | None) -> str | None:
    """The data root as it is written shortest: the same folder, written otherwise, is the same data."""
    if not root:
        return root
    root = os.path.normpath(root)
    inside = os.path.relpath(root)
    return root if os.path.isabs(root) and inside.startswith(os.pardir) else inside


def _key(*parts) -> str:
    return digest(list(parts))[:12]


class Saved(NamedTuple):
    """The files of a network: its tensors, and the small file that says what they were made from."""

    tensors: str
    identity: str


class Plan:
    """A resolved config, and what follows from it."""

    def __init__(self, config: dict):
        self.config = config
        self.run = f"results/{config['run']}"
        self.stages = {stage["name"]: stage for stage in config["recipe"]}
        self.known = {**self._implicit_stage(), **self.stages}  # what has files: the recipe's, and what `quick` adds

    # ---- data

    @property
    def is_demo(self) -> bool:
        return self.config["data"]["source"] == "demo"

    @property
    def is_kaggle(self) -> bool:
        return self.config["data"]["source"] == "kaggle"

    @property
    def kaggle_folder(self) -> str:
        return f"{CACHE}/kaggle-{self.config['data']['competition']}"

    @property
    def root(self) -> str:
        if self.is_kaggle:
            return f"{self.kaggle_folder}/data"
        return DEMO_ROOT if self.is_demo else self.data["root"]

    @property
    def data(self) -> dict:
        """The part of the config that says what the data are; where to submit to is none of it."""
        data = self.config["data"]
        data = {**data, "root": _root(data["root"])}
        return data if self.is_kaggle else {k: v for k, v in data.items() if k not in ("competition", "layout")}

    @property
    def has_test(self) -> bool:
        data = self.config["data"]
        if self.is_demo or data["test"] or data["sample_submission"]:
            return True
        return data["source"] == "folders" and os.path.isdir(os.path.join(self.root, "test"))

    @property
    def data_folder(self) -> str:
        return f"{CACHE}/data-{_key(self.data)}"

    @cached_property
    def listed(self) -> list[Entry]:
        """The files of the data root, sorted; not of data that the workflow itself brings."""
        return [] if self.is_demo or self.is_kaggle else data_files(self.data)

    @property
    def contents(self) -> str:
        """The index of what the manifest was made of (core/contents.py): beside it, and no output, as it is kept up to date."""
        return f"{self.data_folder}/.made/contents"

    @cached_property
    def manifest_settings(self) -> dict:
        """The listing digest makes an image added, removed or of another size be seen; see `contents` for the rest."""
        data = dict(self.data)
        if self.is_kaggle:
            # Downloaded by this very workflow: kaggle.json says what the data are.
            return _sorted({"data": {**data, "source": data["layout"], "root": self.root}, "listing": None})
        if self.is_demo:
            # The demo is written by this very workflow, as a Kaggle competition would be downloaded.
            demo = {
                "labels": "labels.csv",
                "train": "train",
                "test": "test",
                "sample_submission": "sample_submission.csv",
            }
            return _sorted(
                {"data": {**data, "source": "csv", "root": DEMO_ROOT, "suffix": ".png", **demo}, "listing": None}
            )
        return _sorted({"data": data, "listing": listing_digest(data["root"], self.listed)})

    # ---- folds

    @property
    def held_out(self) -> list[str]:
        """The folds that hold images out, as they stand in paths: "0", "1", ...; none where all are trained on."""
        use = self.config["split"]["use"]
        return [] if use == "all" else [str(fold) for fold in use]

    @property
    def folds(self) -> list[str]:
        """What is trained, as it stands in paths: the folds in use, and "all" of the images where that is submitted."""
        return self.held_out + (["all"] if not self.held_out or self.config["split"]["submit"] != "folds" else [])

    @property
    def submitted(self) -> list[str]:
        """Those of `folds` whose networks answer for the images to predict."""
        submit = self.config["split"]["submit"] if self.held_out else "all"
        return {"folds": self.held_out, "all": ["all"], "both": self.folds}[submit]

    def finder_fold(self, fold: str) -> str:
        """The fold whose learning-rate finder a fold takes its rates from: "all" takes what the first fold found."""
        return self.held_out[0] if fold == "all" and self.held_out else fold

    @property
    def finder_folds(self) -> list[str]:
        return self.held_out or ["all"]

    @property
    def folds_settings(self) -> dict:
        # Which folds are used does not change what they are.
        split = {key: value for key, value in self.config["split"].items() if key not in ("use", "submit")}
        return _sorted({"split": split, "seed": self.config["seed"]})

    # ---- pixels

    def pixels_folder(self, size: int) -> str:
        return f"{CACHE}/pixels-{_key(self.data, short_side_for(size))}"

    @cached_property
    def short_sides(self) -> dict[str, int]:
        """Short side (px) by key of the pixel folder."""
        sizes = {stage["size"] for stage in self.stages.values()}
        return {self.pixels_folder(size).rpartition("-")[2]: short_side_for(size) for size in sizes}

    # ---- shards

    @cached_property
    def shards(self) -> int:
        """Parts of pixels, activations and predictions. No result depends on it, so no settings hold it."""
        if self.config["shards"] != "auto":
            return self.config["shards"]
        return 1 if self.is_demo else parts_for(len(self.listed) or sum(1 for _ in files_below(self.root)))

    def parts(self, path: str, name: str) -> list[str]:
        """A file of each part of the work whose result is ``path`` (without suffix); ``name`` has {part} in it."""
        return [f"{path}.parts/{name.format(part=part)}" for part in names(self.shards)]

    # ---- trunk and activations

    def weights_settings(self, arch: str, weights: str | list[str]) -> dict:
        """What the starting trunk of a network, or of several put together, depends on."""
        settings = {"arch": arch, "weights": weights}
        if "timm/" in arch:
            settings["timm"] = installed("timm")
        each = as_list(weights)
        if "none" in each:
            settings["seed"] = self.config["seed"]
        if prints := [fingerprint(path) for path in each if os.path.isfile(path)]:
            settings["fingerprint"] = prints if len(prints) > 1 else prints[0]
        if packages := [name.removeprefix(PACKAGE) for name in each if name.startswith(PACKAGE)]:
            settings["packages"] = {name: installed(name) for name in packages}
        return _sorted(settings)

    @property
    def arch(self) -> str:
        """The network's name; of several, a+b."""
        return TOGETHER.join(as_list(self.config["model"]["arch"]))

    @property
    def starting_networks(self) -> list[tuple[str, str]]:
        """(arch, weights) of each network of the run."""
        return networks_of(self.arch, self.config["model"]["weights"])

    @cached_property
    def weights_folder(self) -> str:
        return self.weights_folder_of(self.arch, self.config["model"]["weights"])

    def weights_folder_of(self, arch: str, weights: str | list[str]) -> str:
        return f"{CACHE}/weights-{_key(self.weights_settings(arch, weights))}"

    @cached_property
    def starting_weights(self) -> dict[str, dict]:
        """By the key of its folder, what each starting trunk depends on: the run's own, and those it is compared with."""
        own = self.arch, self.config["model"]["weights"]
        every = {(own[0], tuple(as_list(own[1]))): own}
        every |= {
            (arch, (weights,)): (arch, weights) for racer in self.racers.values() for arch, weights in racer.parts
        }
        found = [self.weights_settings(*pair) for pair in every.values()]
        return {_key(settings): settings for settings in found}

    # ---- networks side by side

    @cached_property
    def racers(self) -> dict[str, Racer]:
        """What `make trunks` compares, by the name of its folder; the run's own first."""
        found = racers_of(self.config["model"], self.config["trunks"], self.devices > 0)
        return {racer.folder: racer for racer in found}

    def activations_of_racer(self, racer: str) -> list[str]:
        """The plain activations of each of its networks, without suffix, at the recipe's first size."""
        size = self.known[self.quick_stage]["size"]
        folders = [self.weights_folder_of(*part) for part in self.racers[racer].parts]
        return [f"{self.activations_folder(size, 0, 0, folder)}/views_0-0" for folder in folders]

    def compare_trunks_settings(self) -> dict:
        """racers: name, networks and the number of their parts, in the order of the inputs; the metric that judges."""
        racers = [{"name": racer.name, "parts": [list(part) for part in racer.parts]} for racer in self.racers.values()]
        what = {"run": self.config["run"], "racers": racers, "folds": self.held_out, "metric": self.config["metric"]}
        what |= {"size": self.known[self.quick_stage]["size"], "positive": self.config["submission"]["positive"]}
        return _sorted(what)

    def _implicit_stage(self) -> dict[str, dict]:
        """The linear stage that `quick` fits where the recipe has none on plain activations: by name, {} where it has."""
        if any(self._is_quick(name, stage) for name, stage in self.stages.items()):
            return {}
        name = "quick"
        while name in self.stages:
            name += "_"
        size = self.config["recipe"][0]["size"]
        return {name: {"name": name, "size": size, "train": "linear", "augment": False, "from": None}}

    def _is_quick(self, name: str, stage: dict) -> bool:
        """Whether a stage is linear, on the starting trunk, and needs no views but the plain one, which take most of the time."""
        return stage["train"] == "linear" and not stage["augment"] and self.trunk_stage(name) is None

    def is_linear(self, stage: str) -> bool:
        return self.known[stage]["train"] == "linear"

    @property
    def trained_stages(self) -> list[str]:
        """The stages that are trained in steps, at a rate."""
        return [name for name, stage in self.stages.items() if stage["train"] != "linear"]

    @property
    def linear_stages(self) -> list[str]:
        return [name for name in self.stages if self.is_linear(name)]

    @property
    def quick_stage(self) -> str:
        """The stage that gives the first answer: the first linear one on plain activations of the starting trunk."""
        return next(name for name, stage in self.known.items() if self._is_quick(name, stage))

    def start(self, stage: str) -> str | None:
        """The stage that a stage goes on from: the one it names, else the nearest earlier one that is not linear."""
        names = list(self.stages)
        if stage not in self.stages:  # `quick`'s
            return None
        before = [name for name in names[: names.index(stage)] if self.stages[name]["train"] != "linear"]
        return self.stages[stage]["from"] or (before[-1] if before else None)

    def previous(self, stage: str) -> str | None:
        """The stage whose head a stage starts from; a linear stage starts from none."""
        return None if self.is_linear(stage) else self.start(stage)

    def trunk_stage(self, stage: str) -> str | None:
        """The stage whose trunk a stage starts from: the last one on its way here that trained all layers; None: pretrained."""
        before = self.start(stage)
        while before is not None and self.stages[before]["train"] != "all":
            before = self.start(before)
        return before

    def saved(self, stage: str, fold: str) -> Saved:
        """What a stage leaves of its network."""
        folder = f"{self.run}/fold{fold}/{stage}"
        return Saved(f"{folder}/checkpoint.safetensors", f"{folder}/stage.json")

    def starting_trunk(self, stage: str, fold: str) -> Saved:
        """The trunk that a stage starts from: an earlier stage's, or the pretrained one."""
        made_by = self.trunk_stage(stage)
        if made_by is None:
            return Saved(f"{self.weights_folder}/trunk.safetensors", f"{self.weights_folder}/weights.json")
        return self.saved(made_by, fold)

    def starting_head(self, stage: str, fold: str) -> Saved | None:
        """The head that a stage starts from: that of the stage before; None where it starts from a new one."""
        before = self.previous(stage)
        return self.saved(before, fold) if before else None

    def final_trunk(self, fold: str) -> Saved:
        """The trunk behind the last stage's answer: its own, or that of the last stage that trained all layers."""
        last = self.last_stage
        return self.saved(last, fold) if self.stages[last]["train"] == "all" else self.starting_trunk(last, fold)

    def holds_back(self, stage: str) -> bool:
        """Whether a stage learns nothing from the images that say when `until: over_fitting` ends: it has that itself, or
        one that has it goes on from it, and would find them learned already."""
        for name, settings in self.stages.items():
            while settings["until"] and name is not None:
                if name == stage:
                    return True
                name = self.start(name)
        return False

    def views(self, stage: str) -> list[tuple[int, int]]:
        """First and last view of each file of activations a stage reads: the plain one, then the augmented."""
        settings = self.known[stage]
        plain = [(0, 0)]
        if not settings["augment"]:
            return plain
        return [*plain, (settings["first_view"], settings["first_view"] + stage_epochs(settings) - 1)]

    def activations_settings(self, size: int, first: int, last: int, trunk: str | None = None) -> dict:
        """What a file of activations depends on; ``trunk`` is the stage whose trunk makes them, None the pretrained.

        rows: the pretrained trunk serves every fold, and the test images in the plain view; a tuned one its own fold, so it
        need not look at all images.
        """
        settings = {"size": size, "first": first, "last": last, "device": self.config["device"]}
        if trunk is None:
            settings["rows"] = "trainable" if first else "readable"
        else:
            readers = [
                stage
                for name, stage in self.stages.items()
                if self.trunk_stage(name) == trunk and stage["size"] == size
            ]
            trains_on_plain = any(
                stage["train"] == "linear" or (stage["train"] == "head" and not stage["augment"]) for stage in readers
            )
            settings["rows"] = "train" if first else "labelled" if trains_on_plain else "valid"
        if first > 0:
            settings |= {"augmentation": self.config["augmentation"], "seed": self.config["seed"]}
        elif self.config["augmentation"]["crop"] == "squish":
            settings |= {"crop": "squish"}  # the plain view is squished too
        return _sorted(settings)

    def activations_folder(self, size: int, first: int, last: int, weights: str | None = None) -> str:
        """Folder of the activations of the starting trunk in the folder ``weights``, the run's own unless given. The range of
        views is in the file's name, not in the key."""
        settings = self.activations_settings(size, first, last)
        what = {key: value for key, value in settings.items() if key not in ("first", "last")}
        kind = "augmented" if first else "plain"
        return f"{CACHE}/activations-{kind}-{_key(self.pixels_folder(size), weights or self.weights_folder, what)}"

    def activations(self, stage: str, fold: str) -> list[str]:
        """The activation files, without suffix, that a head or linear stage reads."""
        size, trunk = self.known[stage]["size"], self.trunk_stage(stage)
        if trunk is None:
            return [f"{self.activations_folder(size, a, b)}/views_{a}-{b}" for a, b in self.views(stage)]
        return [f"{self.run}/fold{fold}/{trunk}/activations/{size}px_views_{a}-{b}" for a, b in self.views(stage)]

    @cached_property
    def shared_activations(self) -> dict[str, tuple[int, str]]:
        """Size (px) and folder of the starting trunk, by name of the folder of the activations."""
        own = [
            (stage["size"], a, b, self.weights_folder)
            for name, stage in self.known.items()
            if stage["train"] != "all" and self.trunk_stage(name) is None
            for a, b in self.views(name)
        ]
        size = self.known[self.quick_stage]["size"]
        parts = {part for racer in self.racers.values() for part in racer.parts}
        every = [*own, *((size, 0, 0, self.weights_folder_of(*part)) for part in sorted(parts))]
        return {Path(self.activations_folder(*what)).name: (what[0], what[3]) for what in every}

    # ---- stages

    def lr(self, stage: str) -> tuple[float | list[float] | None, str]:
        """A stage's learning rate, or None where the finder gives it; and the stage it comes from."""
        value = self.stages[stage]["lr"]
        if value == "auto":
            return None, stage
        return self.lr(value) if isinstance(value, str) else (value, stage)

    @property
    def auto_stages(self) -> list[str]:
        """The stages whose learning rate comes from their own finder."""
        return [stage for stage in self.trained_stages if self.lr(stage) == (None, stage)]

    def lr_find(self, stage: str, fold: str) -> str | list:
        """The finder's result that a stage reads; an empty list, Snakemake's "no file", where it reads none."""
        value, origin = self.lr(stage)
        return f"{self.run}/fold{self.finder_fold(fold)}/{origin}/lr_find.json" if value is None else []

    def _training_settings(self, stage: str) -> dict:
        # Which stage this one goes on from is seen from its inputs.
        settings = {key: value for key, value in self.stages[stage].items() if key not in ("lr", "snapshots", "from")}
        # What a stage does not read is the same whatever the config says, so that a change of it trains nothing again.
        if settings["train"] == "head":
            settings |= {"lr_ratio": 1.0, "layer_decay": None}
        if settings["averaging"] != "ema":
            settings["ema_decay"] = None
        model = self.config["model"]
        shared = {key: self.config[key] for key in ("seed", "batch_size", "device")}
        if settings["train"] == "all":
            # A head stage depends on these through its activations alone.
            shared |= {"augmentation": self.config["augmentation"], "bn_freeze": model["bn_freeze"]}
        return {"stage": settings, "arch": self.arch, "holds_back": self.holds_back(stage), **shared}

    def find_lr_settings(self, stage: str) -> dict:
        settings = self._training_settings(stage)
        unread = ["mixup", "cutmix", "averaging", "ema_decay", "gpus", "until"]
        if settings["stage"]["train"] == "all":
            # The sweep has a schedule of its own; trials train the stage.
            unread += ["schedule", "warmup", "sampler", "min_steps"]
        if not settings["stage"]["augment"]:
            unread += ["first_view"]
        settings["stage"] = {key: value for key, value in settings["stage"].items() if key not in unread}
        # No image that a trunk has learned from can be held back from it.
        settings["trials"] = settings["stage"]["train"] == "head" and self.trunk_stage(stage) is None
        return _sorted({**settings, "lr_find": self.config["lr_find"]})

    def fit_linear_settings(self, stage: str) -> dict:
        """Of a linear stage: it has no rate, and ``seed`` only deals images into inner folds where the job has too few."""
        what = {key: self.known[stage][key] for key in ("name", "size", "train", "augment")}
        first, last = self.views(stage)[-1]
        views = list(range(first, last + 1)) if first else []
        what = {"stage": what, "views": views, "holds_back": self.holds_back(stage)}
        return _sorted({**what, **{key: self.config[key] for key in ("seed", "device")}})

    def train_settings(self, stage: str) -> dict:
        value, origin = self.lr(stage)
        snapshots = self.stages[stage]["snapshots"]
        return _sorted({**self._training_settings(stage), "lr": value, "lr_from": origin, "snapshots": snapshots})

    # ---- prediction

    @property
    def last_stage(self) -> str:
        return list(self.stages)[-1]

    @property
    def splits(self) -> list[str]:
        """What there is to predict: held-out rows unless all data train, test rows where there are any."""
        return (["valid"] if self.held_out else []) + (["test"] if self.has_test else [])

    def predicted(self, split: str) -> list[str]:
        """The folds that predict a split: those that hold images out, or those that are submitted."""
        return (self.held_out if split == "valid" else self.submitted) if split in self.splits else []

    # ---- who answers

    def networks(self, stage: str) -> list[str]:
        """The networks of a stage that may answer: "cycle1", ... for kept snapshots, "end" for what it ended with.

        The last cycle's snapshot is the end, unless the stage ended with an average of weights.
        """
        settings, members = self.stages[stage], self.config["ensemble"]["members"]
        chosen = members == "stages" and bool(self.held_out)  # without held-out images nothing can be chosen
        if not settings["snapshots"] or not (chosen or members == "snapshots"):
            return ["end"]
        averaged = settings["averaging"] != "none"
        return [f"cycle{cycle}" for cycle in range(1, settings["cycles"] + averaged)] + ["end"]

    @cached_property
    def candidates(self) -> list[dict]:
        """The stages whose networks may answer, in the recipe's order: stage, size, train, networks, and in ``trunk`` the
        stage whose trunk a head stage sits on (None: the starting one)."""
        every = self.config["ensemble"]["members"] == "stages" and bool(self.held_out)
        return [
            {
                "stage": name,
                "size": stage["size"],
                "train": stage["train"],
                "trunk": None if stage["train"] == "all" else self.trunk_stage(name),
                "networks": self.networks(name),
            }
            for name, stage in self.stages.items()
            if every or name == self.last_stage
        ]

    @cached_property
    def answering(self) -> list[str]:
        """The stages whose checkpoints make the candidates: their own, and those that hold their trunks."""
        needed = {name for stage in self.candidates for name in (stage["stage"], stage["trunk"])}
        return [name for name in self.stages if name in needed]

    @property
    def answering_snapshots(self) -> list[str]:
        """Those of the candidates whose snapshots may answer."""
        return [stage["stage"] for stage in self.candidates if len(stage["networks"]) > 1]

    @property
    def answering_sizes(self) -> list[int]:
        """The sizes (px) that the candidates see, rising."""
        return sorted({stage["size"] for stage in self.candidates})

    def _candidates_settings(self) -> dict:
        keys = ("answering", "answering_sizes", "answering_snapshots", "candidates")
        return {key: getattr(self, key) for key in keys} | {"arch": self.arch}

    def predict_settings(self) -> dict:
        settings = {
            **self._candidates_settings(),
            "views": 1 + self.config["tta"]["views"],
            "device": self.config["device"],
            "augmentation": self.config["augmentation"],
            "seed": self.config["seed"],
        }
        return _sorted(settings)

    def _answer_settings(self) -> dict:
        """What turns members into an answer, for whoever averages them."""
        tta = {key: self.config["tta"][key] for key in ("average", "weights")}
        ensemble = {key: self.config["ensemble"][key] for key in ("average", "weights")}
        networks = [[stage["stage"], network] for stage in self.candidates for network in stage["networks"]]
        if not self.held_out:
            ensemble["weights"] = "equal"
        return {"tta": tta, "ensemble": ensemble, "networks": networks, "views": 1 + self.config["tta"]["views"]}

    def choose_settings(self) -> dict:
        judged = {"metric": self.config["metric"], "positive": self.config["submission"]["positive"]}
        return _sorted({**self._answer_settings(), **judged, "runs": self.other_runs})

    # ---- new images

    @property
    def predict_folder(self) -> str:
        """Where predictions of the new images go: named as their own folder is, in letters that suit every path."""
        images = self.config["predict"]["images"] or "images"
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.basename(os.path.abspath(images))).lstrip("._-")
        return f"{self.run}/predict/{name or 'images'}"

    def predict_new_settings(self) -> dict:
        """The listing digest makes images added, removed or replaced by others of another size be seen."""
        images = self.config["predict"]["images"]
        what = {"images": images, "listing": listing_digest(images), "shown": 60, "sure": 0.8}
        what |= {"answer": self._answer_settings(), "suffix": self.config["data"]["suffix"], "runs": self.other_runs}
        what["short_sides"] = [short_side_for(size) for size in self.answering_sizes]
        return _sorted({**self.predict_settings(), **what})

    def export_model_settings(self) -> dict:
        """``checked``: images whose probabilities must come out within ``tolerance``."""
        settings = {**self._candidates_settings(), "seed": self.config["seed"], "answer": self._answer_settings()}
        settings |= {"checked": 64, "tolerance": 1e-4, "runs": self.other_runs}
        return _sorted({**settings, "augmentation": {"crop": self.config["augmentation"]["crop"]}})

    def check_job_settings(self) -> dict:
        return _sorted(
            {
                "metric": self.config["metric"],
                "folds": self.held_out,
                "method": self.config["split"]["method"],
                "arch": self.arch,
                "sizes": sorted({stage["size"] for stage in self.known.values()}),
            }
        )

    @property
    def other_runs(self) -> list[str]:
        """The folders of the runs that are averaged with this one."""
        return [f"results/{run}" for run in self.config["ensemble"]["runs"]]

    def score_settings(self) -> dict:
        settings = {**self.choose_settings(), "seed": self.config["seed"], "folds": len(self.submitted)}
        return _sorted({**settings, "tuning": self.config["tuning"]})

    def quick_answer_settings(self) -> dict:
        what = {"run": self.config["run"], "stage": self.quick_stage, "metric": self.config["metric"]}
        return _sorted({**what, "positive": self.config["submission"]["positive"]})

    @property
    def answer_separator(self) -> str:
        """What joins the names of an answer of the submission."""
        return self.config["submission"]["separator"] or self.config["data"]["separator"] or " "

    def _submission_settings(self, *unread: str) -> dict:
        """The config's `submission` but for the keys that a rule does not read, and what tables of the data call its columns."""
        data = self.config["data"]
        named = (data["layout"] if self.is_kaggle else data["source"]) == "csv" and isinstance(data["label"], str)
        names = {"id_column": data["id"], "label_column": data["label"] if named else "label"}
        asked = {key: value for key, value in self.config["submission"].items() if key not in unread}
        return {**asked, "separator": self.answer_separator, **names}

    def check_submission_settings(self) -> dict:
        return _sorted({"submission": self._submission_settings("gzip", "clip")})

    def write_submission_settings(self) -> dict:
        return _sorted({"submission": self._submission_settings("gzip")})  # gzip: of gzip_submission

    @property
    def first_fold(self) -> str:
        """The fold that is looked into: the first that holds images out, where one does."""
        return (self.held_out or self.folds)[0]

    def show_augmentation_settings(self) -> dict:
        """``images`` and random ``views`` of each that the sheet shows."""
        size = self.stages[self.last_stage]["size"]
        what = {"size": size, "augmentation": self.config["augmentation"], "seed": self.config["seed"]}
        return _sorted({**what, "images": 3, "views": 5})

    def insight_settings(self) -> dict:
        """``most``: images on the map; ``per_sheet``: images on a sheet of Grad-CAM."""
        what = {"fold": self.first_fold, "most": 1000, "per_sheet": 6, "seed": self.config["seed"]}
        what |= {"arch": self.arch, "size": self.stages[self.last_stage]["size"]}
        what |= {"device": self.config["device"], "augmentation": {"crop": self.config["augmentation"]["crop"]}}
        return _sorted(what)

    def submit_settings(self) -> dict:
        """``poll_s``: seconds between two looks for the score; ``wait_s``: after how many to stop looking."""
        what = {
            "competition": self.config["data"]["competition"],
            "run": self.config["run"],
            "poll_s": 10,
            "wait_s": 3600,
        }
        return _sorted({**what, "submission": self._submission_settings("gzip", "clip")})

    def report_settings(self) -> dict:
        # What is asked of a finished run is no part of it.
        config = {key: value for key, value in self.config.items() if key not in ("predict", "tracking")}
        return _sorted({"run": self.config["run"], "config": config})

    def track_mlflow_settings(self) -> dict:
        """``store``: MLflow's database, one for all runs, so that it can set them side by side."""
        config = self.report_settings()["config"]
        return _sorted({"run": self.config["run"], "config": config, "store": "results/mlflow.db"})

    @property
    def tracked(self) -> list[str]:
        """What the trackers of the config leave of this run."""
        left = {
            "tensorboard": [f"{self.run}/tensorboard/fold{fold}/events.out.tfevents.0" for fold in self.folds],
            "mlflow": [f"{self.run}/mlflow.json"],
        }
        return [path for name in self.config["tracking"] for path in left[name]]

    @cached_property
    def devices(self) -> int:
        """GPUs that jobs on this machine share: counted by the devices' files, since to import torch would cost seconds."""
        kind, shown = self.config["device"]["kind"], os.environ.get("CUDA_VISIBLE_DEVICES")
        found = sum(1 for _ in DEV.glob("nvidia[0-9]*"))
        if shown is not None:
            found = min(found, sum(1 for name in shown.split(",") if name.strip()))
        return {"auto": found, "cuda": max(1, found)}.get(kind, 0)

    def gpus(self, stage: str | None = None) -> int:
        """GPUs that a job of the device takes, or one that trains a stage; 0 where there is none."""
        return min(1, self.devices) * (self.stages[stage]["gpus"] if stage else 1)

    def threads(self, cores: int | None, stage: str | None = None) -> int:
        """Cores for a job of the device, or one that trains a stage; ``cores``: of the machine, None where unknown.

        Where several GPUs work side by side, each GPU's share. A CPU's jobs get all, so that they run one after another
        and no more threads work than there are cores. A GPU has no use for more than 16.
        """
        return max(1, min(16, (cores or 16) // max(1, self.devices))) * max(1, self.gpus(stage))

    def check(self) -> None:
        """Raise UserError for a config that contradicts itself in ways only the plan can tell, or whose data are not there."""
        results = os.path.realpath("results")
        if (
            not self.is_demo
            and not self.is_kaggle
            and os.path.commonpath([results, real := os.path.realpath(self.root)]) == real
        ):
            raise UserError(
                f"data.root: {self.config['data']['root']} holds this workflow's own folder results, so that each run would change "
                "its data; move the images into a folder of their own"
            )
        _ = self.manifest_settings  # lists the data
        _ = self.racers  # names them
        for _, weights in self.starting_networks:
            if is_path(weights) and not os.path.isfile(weights):
                raise UserError(
                    f"model.weights: {weights} does not exist (give DEFAULT, IMAGENET1K_V1, none, the path of a file or "
                    "package:<name>)"
                )
        if self.splits == []:
            raise UserError("split.use: all trains on every image and there are no test images: nothing to predict")
