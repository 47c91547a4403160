"""Every example, on a generated miniature of its competition: from its files to a submission that the rules accept."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import checker
import miniatures
import numpy as np
import pandas as pd
import pytest
from inprocess import ROOT, TINY, Named, config_of, run_in_this_process

from eightfold.config import guess
from eightfold.config.config_text import config_text
from eightfold.config.new_config import job_of
from eightfold.config.plan import Plan
from eightfold.config.quality import ladder
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.inputs import dataset
from eightfold.raw import folds, images, manifest
from eightfold.raw.stores import Store

EXAMPLES = sorted(checker.RULES)


def test_every_example_but_the_full_size_ones_has_a_miniature_and_rules():
    shipped = {path.stem for path in (ROOT / "examples").glob("*.yaml")} - {
        "ants_bees",
        "ants_bees_folds",
        "solar_cells",
    }
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
    targets = dataset.targets(table, info)
    if example.name == "ranzcr":
        assert targets[5].sum() == 0 and table["id"][0] == "1.2.826.0.1.3680043.8.498.26697628953273228189"


def test_make_new_reads_an_example_as_its_own_config_does(example):
    """But for what only a person knows: what black and white are in a radar image."""
    layout = guess.infer(example.folder / "data")
    text = config_text("new", layout, ladder(job_of(layout, gpu=False))[0])
    (example.folder / "new.yaml").write_text(text)
    config = resolve(check_yaml_file(example.folder / "new.yaml"), "new.yaml")
    built, own = manifest.build(config["data"], threads=2), example.built
    columns, told = ["id", "path", "split", "labels", "group"], ("classes", "task", "ordered")
    assert built.table[columns].equals(own.table[columns]) and built.rejected.empty
    assert {key: built.info[key] for key in told} == {key: own.info[key] for key in told}
    assert config["split"]["method"].endswith("grouped") == (example.name == "ranzcr")
    assert config["data"]["sample_submission"] == example.config["data"]["sample_submission"]


@pytest.mark.parametrize(
    "name", ["cassava", "aerial_cactus", "inaturalist2019", "iceberg", "whale", "dogs_vs_cats_redux"]
)
def test_each_label_is_on_its_own_image(name, tmp_path):
    miniatures.write(name, tmp_path)
    built = manifest.build(config_of(name, tmp_path)["data"])
    store = Store(tmp_path, built.info["reading"])
    shade = [
        np.asarray(images.open_image(store.read(path), built.info["reading"]["range"])).mean()
        for path in built.table["path"]
    ]
    by_class = pd.Series(shade).groupby(built.table["labels"].replace("", None))
    assert by_class.std().max() < 3 and np.diff(np.sort(by_class.mean())).min() > 6


def test_the_folds_of_an_example_hold_out_every_image_once(example):
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
        input=Named(manifest=str(example.folder / "manifest" / "manifest.csv"), test=example.folder / "test.csv"),
        output=Named(submission=str(output)),
        params=Named(settings=Plan(example.config).write_submission_settings()),
        log=[str(example.folder / "log")],
        threads=1,
    )
    runpy.run_path(str(ROOT / "scripts" / "write_submission.py"), {"snakemake": job})
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


def test_the_checker_finds_faults(tmp_path):
    path = tmp_path / "s.csv"
    bad = ["id,label\n1,0.5\n2,nan\n", "id,label\n1,0.5\n3,0.5\n", "id,label\n1,0.5\n2,1.5\n", "id,x\n1,0\n2,0\n"]
    for text in [*bad, "id,label\n1,0.5\n", "id,label\n1,1e-1\n2,0.5\n", "id,label\r\n1,0\r\n2,0\r\n"]:
        path.write_bytes(text.encode())
        assert checker.faults("iceberg" if text == bad[3] else "histopathologic", path, ["1", "2"]), text
    path.write_text("id,label\n1,0.5\n2,1\n")
    assert checker.faults("histopathologic", path, ["1", "2"]) == []


# ---- the workflow, for every example


# What is submitted, tuned and averaged differs from one to the next, so that one run each shows them all. Two folds tune.
TUNED = {
    "planet": {
        "split": {"folds": 2, "use": [0, 1], "submit": "both"},
        "ensemble": {"average": "geometric"},
        "augmentation": {"preset": "none"},  # random views are of a row of the manifest, which new images have not
        "predict": {"images": "data/test-jpg"},
    },
    "aptos2019": {"split": {"folds": 2, "use": [0, 1], "submit": "all"}, "predict": {"images": "data/test_images"}},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_workflow_takes_an_example_to_an_accepted_submission(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = miniatures.write(name, tmp_path / "data")
    shipped = check_yaml_file(ROOT / "examples" / f"{name}.yaml")
    config = shipped | TINY | TUNED.get(name, {})
    config["split"] = shipped.get("split", {}) | config["split"]
    config["data"]["root"] = "data"
    config["recipe"] = [TINY["recipe"][0] | {"snapshots": name == "planet"}]
    targets = [f"results/{name}/submission.csv"]
    if name in TUNED:
        targets.append(f"results/{name}/explore/sample.svg")
        targets.append(f"results/{name}/predict/{Path(config['predict']['images']).name}/predictions.csv")
    ran = run_in_this_process(config, *targets)
    assert {"manifest.py", "pixels.py", "train.py", "predict.py", "score.py", "write_submission.py"} <= set(ran)
    assert checker.faults(name, tmp_path / f"results/{name}/submission.csv", wanted) == []
    figures = json.loads((tmp_path / f"results/{name}/metrics.json").read_text())["final"]
    assert figures["images"] > 0 and np.isfinite(figures["log_loss"])
    if name in TUNED:
        check_tuned(name, config)


def check_tuned(name: str, config: dict) -> None:
    """Cut points or thresholds decide the submission, and new images (the test images again) get its answers."""
    run = Path("results", name)
    what = {"planet": "thresholds", "aptos2019": "cut_points"}[name]
    submit = config["split"]["submit"]
    assert {path.parent.parent.name for path in run.glob("fold*/predictions/test.json")} == {
        f"fold{fold}" for fold in ([0, 1, "all"] if submit == "both" else ["all"])
    }
    tuned = json.loads((run / "tuning.json").read_text())
    step = next(step for step in json.loads((run / "metrics.json").read_text())["tuning"] if step["what"] == what)
    assert step["used"] == (step["after"] > step["before"]) == (tuned[what] is not None)
    own, new = (
        pd.read_csv(path, dtype=str, index_col=0)
        for path in (run / "submission.csv", *run.glob("predict/*/predictions.csv"))
    )
    own.index = own.index.astype(str)
    chances = pd.read_csv(run / "predictions/test.csv", dtype={0: str}).set_index("id")
    new.index = [Path(path).stem for path in new.index]
    np.testing.assert_allclose(new.loc[own.index, chances.columns].astype(float), chances.loc[own.index], atol=1e-5)
    answered = new.loc[own.index, "prediction"].fillna("")
    assert [cell for cell in answered if cell] and all(
        said == wanted or not said for said, wanted in zip(answered, own.iloc[:, 0], strict=True)
    )
