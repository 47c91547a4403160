"""Every layout of labels and pictures: the miniature of each example, odd containers, and what is refused."""

import io
import json
import logging
import runpy
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import checker
import miniatures
import numpy as np
import pandas as pd
import pytest
from miniatures import encoded, put, table
from PIL import Image

from eightfold import folds, images, manifest
from eightfold.config import check_yaml_file, resolve
from eightfold.files import UserError
from eightfold.listing import listing_digest
from eightfold.plan import Plan

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(checker.RULES)
DEFAULTS = resolve({})["data"] | {"source": "csv"}


@pytest.fixture(autouse=True)
def log_is_seen(monkeypatch):
    """A job that ran in this process before has turned the logger away from pytest's."""
    monkeypatch.setattr(manifest.log, "propagate", True)
    monkeypatch.setattr(manifest.log, "level", logging.INFO)


def config_of(name: str, root: Path) -> dict:
    """The example as it is shipped, but for where its data lie."""
    config = check_yaml_file(ROOT / "examples" / f"{name}.yaml")
    config["data"]["root"] = str(root)
    return resolve(config, name)


def refused(data, *parts):
    with pytest.raises(UserError) as caught:
        manifest.build(data)
    for part in parts:
        assert str(part) in str(caught.value), caught.value
    return str(caught.value)


def test_every_example_but_the_full_size_one_has_a_miniature_and_rules():
    shipped = {path.stem for path in (ROOT / "examples").glob("*.yaml")} - {"ants_bees"}
    assert shipped == set(EXAMPLES)


# ---- every example, from its files to an accepted submission; the probabilities are random


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    wanted = miniatures.write(request.param, folder / "data")
    config = config_of(request.param, folder / "data")
    built = manifest.build(config["data"], threads=2)
    manifest.write_manifest(folder / "manifest", built)
    return SimpleNamespace(name=request.param, folder=folder, config=config, ids=wanted, built=built)


CLASSES = {
    "dogs_vs_cats": ["cats", "dogs"],
    "aptos2019": list("01234"),
    "plant_pathology_2020": checker.LEAVES,
    "ranzcr": sorted(checker.FINDINGS),
    "iceberg": ["0", "1"],
    "satellite": ["annual crop", "forest", "river"],
    "inaturalist2019": sorted(["0", "3", "57", "400", "1009", "77"]),
}


def test_the_manifest_of_an_example_is_whole(example):
    table, info = example.built.table, example.built.info
    assert example.built.rejected.empty and set(table["status"]) == {"ok"}
    assert sorted(table["id"][table["split"] == "test"]) == sorted(example.ids)
    assert info["classes"] == CLASSES.get(example.name, info["classes"])
    assert info["task"] == ("multi" if example.name in ("planet", "ranzcr") else "single")
    assert (info["counts"]["valid"] > 0) == (example.name in ("dogs_vs_cats", "inaturalist2019"))
    assert (table["group"] != "").any() == (example.name == "ranzcr")
    assert info["ordered"] == (example.name == "aptos2019")
    targets = manifest.targets(table, info)
    if example.name == "ranzcr":
        assert targets[5].sum() == 0 and table["id"][0] == "1.2.826.0.1.3680043.8.498.26697628953273228189"
    # The shade of a picture tells its class: each label is on its own picture.
    if example.name in ("cassava", "aerial_cactus", "inaturalist2019"):
        number = [int(targets[row]) for row in range(8)]
        shown = {0: "0", 1: "1009", 2: "3", 3: "400", 4: "57", 5: "77"}[number[1]] if "inat" in example.name else None
        assert shown in (None, "3")


def test_the_folds_of_an_example_hold_out_every_picture_once(example):
    found = folds.assign(example.built.table, example.built.info, example.config["split"], 0)
    labelled = example.built.table["split"] != "test"
    assert len(found) == labelled.sum() and found["row"].is_unique


def submit(example, probabilities: np.ndarray, **settings) -> Path:
    """Run the script that writes a submission, with made-up probabilities and the example's settings."""
    example.config["submission"] |= settings
    table, info = example.built.table, example.built.info
    test = table[table["split"] == "test"]
    predicted = pd.concat(
        [test["id"].reset_index(drop=True), pd.DataFrame(probabilities, columns=info["classes"])], axis=1
    )
    predicted.to_csv(example.folder / "test.csv", index=False)
    output = example.folder / "submission.csv"
    output.unlink(missing_ok=True)
    job = SimpleNamespace(
        input=SimpleNamespace(
            manifest=str(example.folder / "manifest" / "manifest.csv"), test=example.folder / "test.csv"
        ),
        output=SimpleNamespace(submission=str(output)),
        params=SimpleNamespace(settings=Plan(example.config).submission_settings()),
        log=[str(example.folder / "log")],
        threads=1,
    )
    runpy.run_path(str(ROOT / "scripts" / "submission.py"), {"snakemake": job})
    return output


def chances(example, seed: int = 0) -> np.ndarray:
    classes, rows = len(example.built.info["classes"]), example.built.info["counts"]["test"]
    random = np.random.default_rng(seed).gamma(0.3, size=(rows, classes)) + 1e-9
    return random / random.sum(1, keepdims=True) if example.built.info["task"] == "single" else np.minimum(random, 1)


def test_the_submission_of_an_example_is_accepted(example):
    p = chances(example)
    path = submit(example, p)
    assert checker.faults(example.name, path, example.ids) == []
    assert "submission format" in (example.folder / "log").read_text()
    packed = example.folder / "submission.csv.gz"
    assert packed.exists() == example.config["submission"]["gzip"]


def test_the_checker_finds_faults(tmp_path):
    path = tmp_path / "s.csv"
    bad = ["id,label\n1,0.5\n2,nan\n", "id,label\n1,0.5\n3,0.5\n", "id,label\n1,0.5\n2,1.5\n", "id,x\n1,0\n2,0\n"]
    for text in [*bad, "id,label\n1,0.5\n", "id,label\n1,1e-1\n2,0.5\n", "id,label\r\n1,0\r\n2,0\r\n"]:
        path.write_bytes(text.encode())
        assert checker.faults("iceberg" if text == bad[3] else "histopathologic", path, ["1", "2"]), text
    path.write_text("id,label\n1,0.5\n2,1\n")
    assert checker.faults("histopathologic", path, ["1", "2"]) == []
