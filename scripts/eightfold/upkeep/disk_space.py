"""How many images a run has, and how many bytes its large files take, before it has made them. Does not import torch."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from eightfold.config.guess_kinds import archived
from eightfold.config.plan import Plan, short_side_for
from eightfold.core.files import read_json
from eightfold.core.listing import files_below

DEMO_IMAGES = 1797  # scikit-learn's digits
ASPECT = 1.5  # long side of an image over its short one, for what its pixels take: that of most cameras
# Tables, and files that hold many images; of these, archives tell how many, the others once they have been looked at.
NO_IMAGES = (".csv", ".json", ".txt", ".md", ".zip", ".7z", ".npy", ".bson")


class Large(NamedTuple):
    """A file, or a folder that is one cache. ``kind``: pixels, activations or checkpoints."""

    kind: str
    path: str
    bytes: int


def images_of(plan: Plan) -> Counter:
    """Images of the run: {"labelled", "test"}, as its manifest says or, before there is one, the files of its data; and
    "valid", those of the labelled ones that the data give to validate with.

    Empty where that is not known yet: data to be downloaded, or arrays of images in one file.
    """
    record = Path(plan.data_folder, "manifest.json")
    if record.is_file():
        return counted(read_json(record)["counts"])
    if plan.is_demo:
        return Counter(labelled=DEMO_IMAGES * 4 // 5, test=DEMO_IMAGES - DEMO_IMAGES * 4 // 5)
    if not os.path.isdir(plan.root):
        return Counter()
    files = [name for name, _ in files_below(plan.root)]
    found = [name for name in files + archived(Path(plan.root), files) if not name.lower().endswith(NO_IMAGES)]
    data = plan.config["data"]

    def below(folder: str | None) -> int:
        return sum(name.startswith(f"{folder}/") for name in found) if folder else 0

    test, valid = (
        below(data["test"] or "test"),
        below(data["valid"] or ("valid" if data["source"] == "folders" else None)),
    )
    return Counter(labelled=len(found) - test, test=test, valid=valid) if found else Counter()


def counted(counts: Mapping[str, int]) -> Counter:
    """The same of the counts that a manifest.json holds."""
    return Counter(labelled=counts["train"] + counts["valid"], test=counts["test"], valid=counts["valid"])


def count_all(images: Counter) -> int:
    """Images that are decoded: the labelled ones and those to predict."""
    return images["labelled"] + images["test"]


def needed(plan: Plan, images: Counter, width: int, trunk: int) -> list[Large]:
    """What the run's large files take. width: of the pooled vector; trunk: bytes of its weights."""
    found = [
        Large("pixels", plan.pixels_folder(size), int(count_all(images) * short_side_for(size) ** 2 * ASPECT * 3))
        for size in sorted({stage["size"] for stage in plan.stages.values()})
    ]
    found.append(Large("checkpoints", plan.weights_folder, trunk))
    head, activations, unfinished = 4 * (width * 513 + 10_000), {}, 0
    for name, stage in plan.stages.items():
        learned = head + (trunk if stage["train"] == "all" else 0)
        snapshots = stage["cycles"] * stage["snapshots"]
        unfinished = max(unfinished, learned * (2 + snapshots))  # weights, momentum, snapshots
        for fold in plan.folds:
            found.append(Large("checkpoints", f"{plan.run}/fold{fold}/{name}", learned * (1 + snapshots)))
            if stage["train"] != "all":
                for path, (first, last) in zip(plan.activations(name, fold), plan.views(name), strict=True):
                    rows = images["labelled"] if first or plan.trunk_stage(name) else count_all(images)
                    vectors = (last - first + 1) * rows
                    activations[f"{path}.safetensors"] = vectors * width * 4
    found += [Large("activations", path, size) for path, size in activations.items()]  # folds share them
    # Until the next job reads the stage: one stage of each fold at a time.
    return [*found, Large("checkpoints", f"{plan.run}/.resume", len(plan.folds) * unfinished)]
