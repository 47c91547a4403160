"""Every layout of labels and pictures: the miniature of each example, odd containers, and what is refused."""

import io
import json
import logging
import runpy
import struct
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import checker
import miniatures
import numpy as np
import pandas as pd
import pytest
import yaml
from miniatures import encoded, put, table
from PIL import Image

from eightfold import folds, images, layout, manifest
from eightfold.config import check_yaml_file, resolve
from eightfold.files import UserError
from eightfold.listing import listing_digest
from eightfold.plan import Plan
from eightfold.stores import Store

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


def test_every_example_but_the_full_size_ones_has_a_miniature_and_rules():
    shipped = {path.stem for path in (ROOT / "examples").glob("*.yaml")} - {"ants_bees", "ants_bees_folds"}
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


def test_make_new_reads_an_example_as_its_own_config_does(example):
    """But for what only a person knows: what black and white are in a radar picture."""
    text = layout.config_text("new", layout.infer(example.folder / "data"))
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
def test_each_label_is_on_its_own_picture(name, tmp_path):
    miniatures.write(name, tmp_path)
    built = manifest.build(config_of(name, tmp_path)["data"])
    store = Store(tmp_path, built.info["reading"])
    shade = [
        np.asarray(images.open_image(store.read(path), built.info["reading"]["range"])).mean()
        for path in built.table["path"]
    ]
    by_class = pd.Series(shade).groupby(built.table["labels"].replace("", None))
    assert by_class.std().max() < 3 and np.diff(np.sort(by_class.mean())).min() > 6


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


# ---- the workflow, for every example

TINY = {
    "model": {"arch": "shufflenet_v2_x0_5", "weights": "none"},
    "recipe": [{"name": "head", "size": 32, "train": "head", "augment": False, "cycles": 2, "lr": 0.02}],
    "split": {"folds": 3, "use": [0]},
    "tta": {"views": 1},
    "batch_size": 8,
    "device": {"kind": "cpu", "precision": "float32"},
}


def run_in_this_process(config: dict, *targets: str) -> list[str]:
    """Run the jobs that Snakemake plans for its targets, one after another, without a process for each; their rules.

    The plan, the files and the params of every job are Snakemake's own; only the start of Python and torch is saved.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    Path("config_file.yaml").write_text(yaml.safe_dump(config))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[Path("config_file.yaml").resolve()]),
            snakefile=ROOT / "Snakefile",
            workdir=Path.cwd(),
        )
        workflow.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
        parts = ("input", "output", "params", "wildcards", "log", "resources")
        jobs = [
            SimpleNamespace(
                script=Path(job.rule.script).name, threads=1, **{part: getattr(job, part) for part in parts}
            )
            for level in workflow._workflow_store.dag.toposorted()
            for job in level
            if job.rule.script
        ]
    for job in jobs:
        for path in [*job.output, *job.log]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        runpy.run_path(str(ROOT / "scripts" / job.script), {"snakemake": job})
    return [job.script for job in jobs]


# What is submitted, tuned and averaged differs from one to the next, so that one run each shows them all. Two folds tune.
TUNED = {
    "planet": {
        "split": {"folds": 2, "use": [0, 1], "submit": "both"},
        "ensemble": {"snapshots": True, "weights": "greedy", "average": "geometric"},
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
    assert {"manifest.py", "pixels.py", "train.py", "predict.py", "evaluate.py", "submission.py"} <= set(ran)
    assert checker.faults(name, tmp_path / f"results/{name}/submission.csv", wanted) == []
    figures = json.loads((tmp_path / f"results/{name}/metrics.json").read_text())["final"]
    assert figures["images"] > 0 and np.isfinite(figures["log_loss"])
    if name in TUNED:
        check_tuned(name, config)


def check_tuned(name: str, config: dict) -> None:
    """Cut points or thresholds decide the submission, and new pictures (the test pictures again) get its answers."""
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


def test_a_picture_saved_again_is_in_the_fold_of_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(12):
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((60, 50))
        for quality in (95, 40):
            path = tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}-{quality}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=quality)
    config = {**TINY, "run": "twice", "data": {"source": "folders", "root": "data"}}
    ran = run_in_this_process(config, "results/twice/folds.csv")
    assert ran == ["manifest.py", "duplicates.py", "folds.py"]
    found = folds.read_folds("results/twice/folds.csv")
    pairs = found.groupby(found["id"].str.extract(r"(\d+)-", expand=False))["fold"]
    assert len(pairs) == 12 and (pairs.nunique() == 1).all() and set(found["fold"]) == {0, 1, 2}
    told = json.loads(Path("results/twice/folds.json").read_text())
    assert told["pairs_apart"] == 0 and json.loads(Path("results/twice/duplicates.json").read_text())["near"] == 12


# ---- containers


@pytest.fixture
def zipped(tmp_path):
    """Six pictures in train.zip/in/, and their table within another archive; returns the config."""
    rows = [(f"{number:03d}", "ab"[number % 2]) for number in range(6)]
    miniatures.archive(
        tmp_path / "train.zip", {f"in/{name}.png": encoded(n % 2, n) for n, (name, _) in enumerate(rows)}
    )
    text = "id,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
    miniatures.archive(tmp_path / "labels.csv.zip", {"labels.csv": text.encode()})
    return DEFAULTS | {
        "root": str(tmp_path), "labels": "labels.csv.zip/labels.csv", "suffix": ".png", "train": "train.zip/in"
    }  # fmt: skip


def add_member(path: Path, name: str, content: bytes = b"x", **facts) -> None:
    member = zipfile.ZipInfo(name)
    for key, value in facts.items():
        setattr(member, key, value)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(member, content, zipfile.ZIP_DEFLATED)


def test_pictures_and_tables_in_archives_are_as_good_as_unpacked(zipped, tmp_path):
    built = manifest.build(zipped, threads=3)
    assert built.table["path"][0] == "train.zip/in/000.png" and built.table["id"].tolist()[1] == "001"
    with zipfile.ZipFile(tmp_path / "train.zip") as file:
        file.extractall(tmp_path / "train")
    unpacked = manifest.build(zipped | {"train": "train/in"})
    assert unpacked.table.drop(columns="path").equals(built.table.drop(columns="path"))
    folder = manifest.build(zipped | {"train": "train.zip"})  # the ids are unique below it
    assert folder.table["path"].tolist() == built.table["path"].tolist()
    assert not (tmp_path / "in").exists()


def test_class_folders_and_test_pictures_in_archives(tmp_path):
    members = {f"train/{kind}/{n}.png": encoded(label, n) for label, kind in enumerate("ab") for n in range(3)}
    members |= {f"test/{number}.png": encoded(0, 9 + number) for number in (10, 9)}
    miniatures.archive(tmp_path / "all.zip", members)
    data = DEFAULTS | {"source": "folders", "root": str(tmp_path), "train": "all.zip/train", "test": "all.zip/test"}
    built = manifest.build(data)
    assert built.info["classes"] == ["a", "b"] and built.table["id"].tolist()[-2:] == ["9", "10"]
    refused(data | {"train": "all.zip/trian"}, "no such folder (data.train)", "did you mean 'all.zip/train'")


@pytest.mark.parametrize("name", ["../out.png", "/etc/x.png", "in/../../x.png", "C:/x.png", "..\\x.png"])
def test_a_member_that_would_leave_its_folder_is_refused(zipped, tmp_path, name):
    add_member(tmp_path / "train.zip", name)
    refused(zipped, tmp_path / "train.zip", "would leave its folder")


def test_bombs_links_twins_and_encrypted_members_are_refused(zipped, tmp_path):
    whole = (tmp_path / "train.zip").read_bytes()

    def again() -> Path:
        (tmp_path / "train.zip").write_bytes(whole)
        return tmp_path / "train.zip"

    add_member(again(), "in/bomb.png", bytes(2**26 + 1))
    refused(zipped, "'in/bomb.png' is a zip bomb", "67,108,865")
    add_member(again(), "in/link.png", b"/etc/passwd", external_attr=0o120777 << 16)
    refused(zipped, "'in/link.png' is a link")
    with pytest.warns(UserWarning, match="Duplicate"):
        add_member(again(), "in/000.png")
    refused(zipped, "'in/000.png' is there twice")
    content = bytearray(again().read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the first entry of the directory
    (tmp_path / "train.zip").write_bytes(content)
    refused(zipped, "'in/000.png' is encrypted")
    (tmp_path / "train.zip").write_bytes(whole[:100])
    refused(zipped, tmp_path / "train.zip", "not a readable zip archive")


def test_a_member_that_says_less_than_it_holds_is_a_bad_picture(zipped, tmp_path):
    content = bytearray((tmp_path / "train.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    size = struct.unpack_from("<I", content, entry + 24)[0]
    struct.pack_into("<I", content, entry + 24, size - 10)
    (tmp_path / "train.zip").write_bytes(content)
    refused(zipped, "train.zip/in/000.png: damaged in its archive")


def test_a_stack_of_arrays_with_labels_beside_it(tmp_path):
    pictures = np.stack([miniatures.shades(number % 2, number)[:, :, 0] for number in range(8)])
    np.save(tmp_path / "x.npy", pictures)
    np.save(tmp_path / "y.npy", np.arange(8) % 2 * 5)
    np.save(tmp_path / "t.npy", pictures[:3])
    data = DEFAULTS | {"root": str(tmp_path), "labels": "y.npy", "train": "x.npy", "test": "t.npy"}
    built = manifest.build(data)
    assert built.table["id"].tolist() == [*map(str, range(8)), "0", "1", "2"]
    assert built.info["classes"] == ["0", "5"] and built.table["path"][7] == "x.npy/7"
    assert set(built.table["mode"]) == {"uint8x1"} and set(built.table["width"]) == {30}
    shown = images.open_image(Store(tmp_path, built.info["reading"]).read("x.npy/3"))
    np.testing.assert_array_equal(np.asarray(shown)[:, :, 1], pictures[3])
    np.save(tmp_path / "x.npy", np.arange(5))
    refused(data, "x.npy", "no stack of pictures")


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_become_pictures_of_their_range():
    def shown(array, span=None):
        return np.asarray(images.open_image(npy(array), span))

    ramp = np.array([[-40.0, -20.0, 0.0]])
    assert shown(ramp)[0, :, 0].tolist() == [0, 128, 255]  # its own least and greatest
    assert shown(ramp, (-60, 20))[0, :, 2].tolist() == [64, 128, 191]
    assert shown(np.full((2, 2), np.nan)).max() == 0
    assert shown(np.array([[0, 257, 65535]], np.uint16))[0, :, 0].tolist() == [0, 1, 255]
    assert shown(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]
    two = shown(np.dstack([ramp, ramp[:, ::-1]]), (-40, 0))
    assert two[0].tolist() == [[0, 255, 127], [128, 128, 128], [255, 0, 127]]
    first = shown(np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7))  # channels first
    assert first.shape == (5, 7, 3) and first[0, 1].tolist() == [1, 36, 71]
    for bad in (np.zeros((5, 5, 5)), np.zeros(4), np.zeros((0, 3)), np.array([["a"]]), np.zeros((2, 2), complex)):
        with pytest.raises(images.BadImage, match="no picture"):
            images.open_image(npy(bad))
    with pytest.raises(images.BadImage, match=r"not a readable \.npy"):
        images.open_image(npy(ramp)[:-5])
    with pytest.raises(images.BadImage, match=r"not a readable \.npy"):
        images.open_image(npy(np.array([object()], dtype=object)))  # a pickle


def test_16_bit_pictures_have_a_range_too():
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 1000, 4095]], np.uint16)).save(file, "PNG")
    assert np.asarray(images.open_image(file.getvalue(), (0, 4095)))[0, :, 0].tolist() == [0, 62, 255]


def test_pictures_that_are_files_of_arrays(tmp_path):
    for number in range(6):
        put(tmp_path / "train" / f"{number:05d}.npy", npy(miniatures.shades(number % 2, number)))
    table(tmp_path / "labels.csv", ["id", "label"], [(f"{number:05d}", number % 2) for number in range(6)])
    built = manifest.build(DEFAULTS | {"root": str(tmp_path), "suffix": ".npy"})
    assert built.table["id"][1] == "00001" and set(built.table["mode"]) == {"uint8x3"}


def test_a_dicom_file_without_its_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"needs the package pydicom: pip install -r envs/requirements-extra\.txt"):
        images.decode(bytes(128) + b"DICM" + bytes(50))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda r: r[2].pop("id"), ["record 3 has no 'id'"]),
        (lambda r: r[2].update(id="00000000"), ["'00000000'"]),
        (lambda r: r[2].pop("inc_angle"), ["record 3", "'inc_angle'"]),
        (lambda r: r[2].update(band_1=[1.0, 2.0]), ["00000002", "make no square"]),
        (lambda r: r[2].update(band_1=[1.0] * 4), ["00000002", "are no picture"]),
        (lambda r: r[2].update(band_1="x"), ["00000002", "no list of numbers"]),
        (lambda r: r[2].update(band_1=["x"]), ["00000002", "no list of numbers"]),
    ],
)
def test_broken_records_are_named(tmp_path, change, parts):
    miniatures.write("iceberg", tmp_path)
    records = json.loads((tmp_path / "train.json").read_text())
    change(records)
    (tmp_path / "train.json").write_text(json.dumps(records))
    refused(config_of("iceberg", tmp_path)["data"], *parts)


@pytest.mark.parametrize("content", ["{}", "[1]", "[", '{"a": [{}]}'])
def test_json_that_is_no_list_of_records(tmp_path, content):
    miniatures.write("iceberg", tmp_path)
    (tmp_path / "train.json").write_text(content)
    refused(config_of("iceberg", tmp_path)["data"], tmp_path / "train.json")


# ---- tables


@pytest.fixture
def columns(tmp_path):
    """Four pictures with two columns of 0 and 1; returns (config, function that writes the table)."""
    for number in range(4):
        put(tmp_path / "train" / f"{number}.png", encoded(number, number))

    def rows(*cells):
        table(tmp_path / "labels.csv", ["id", "an owl", "a|b"], [(number, *row) for number, row in enumerate(cells)])

    rows((1, 0), (0, 1), (1, 0), (0, 1))
    return DEFAULTS | {"root": str(tmp_path), "suffix": ".png", "label": ["an owl", "a|b"]}, rows


def test_columns_of_one_label_a_row_are_a_single_label_job_and_others_are_not(columns):
    data, rows = columns
    assert manifest.build(data).info["task"] == "single"
    several = manifest.build(data | {"multi": True})
    assert several.info["task"] == "multi" and several.info["separator"] not in "a|b an owl"
    for cells in ([(1, 1), (0, 1), (1, 0), (0, 1)], [(0, 0), ("0.0", "1.0"), (1, 0), ("False", "True")]):
        rows(*cells)
        built = manifest.build(data)
        expected = [[float(str(cell) in ("1", "1.0", "True")) for cell in row] for row in cells]
        assert built.info["task"] == "multi" and manifest.targets(built.table, built.info).tolist() == expected
        refused(data | {"multi": False}, "several labels" if sum(map(int, cells[0])) else "line 2: no label")
    rows((1, 2), (0, 1), (1, 0), (0, 1))
    refused(data, "line 2", "'2' in column 'a|b'", "0 or 1")
    refused(data | {"label": ["an owl", "a b"]}, "'a b'", "data.label[1]")


def test_grades_are_in_natural_order_where_they_are_ordered(tmp_path):
    for number in range(12):
        put(tmp_path / "train" / f"{number}.png", encoded(number, number))
    table(tmp_path / "labels.csv", ["id", "label"], [(number, number) for number in range(12)])
    data = DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}
    assert manifest.build(data).info["classes"][:3] == ["0", "1", "10"]
    ordered = manifest.build(data | {"ordered": True})
    assert ordered.info["classes"] == [str(number) for number in range(12)] and ordered.info["ordered"]


def test_pictures_whose_ids_collide_without_their_suffix_are_named(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "test/5.png"):
        put(tmp_path / name, encoded(0, 0))
    data = DEFAULTS | {"source": "folders", "root": str(tmp_path)}
    put(tmp_path / "test" / "5.jpg", encoded(0, 1, "JPEG"))
    refused(data, "'5': test/5.jpg and test/5.png", "rename one of each pair")
    (tmp_path / "test" / "5.jpg").unlink()
    put(tmp_path / "train" / "a" / "1.jpg", encoded(0, 1, "JPEG"))
    refused(data, "'train/a/1': train/a/1.jpg and train/a/1.png")


def test_ids_with_and_without_the_suffix_and_in_folders_below(tmp_path):
    for name in ("a", "b", "0x1f"):
        put(tmp_path / "train" / name[:1] / f"{name}.png", encoded(0, 0))
    put(tmp_path / "train" / "c.png", encoded(1, 0))
    table(tmp_path / "labels.csv", ["id", "label"], [("a", 0), ("b", 1), ("0x1f", 0), ("c.png", 1)])
    data = DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}
    built = manifest.build(data)
    assert built.table["path"].tolist() == ["train/a/a.png", "train/b/b.png", "train/0/0x1f.png", "train/c.png"]
    assert built.table["id"].tolist() == ["a", "b", "0x1f", "c.png"]
    table(tmp_path / "labels.csv", ["id", "label"], [("a", 0), ("b", 1), ("0x1f", 0), ("c.png", 1), ("c", 1)])
    refused(data, "'train/c.png': line 5 and line 6")
    put(tmp_path / "train" / "z" / "a.png", encoded(0, 0))
    refused(data | {"suffix": ""}, "train/a")
    table(tmp_path / "labels.csv", ["id", "label"], [("a", 0), ("b", 1), ("0x1f", 0), ("c", 1)])
    refused(data, "line 2: 2 files have this name: train/a/a.png, train/z/a.png")


def test_a_sample_that_names_a_test_picture_twice_is_refused(tmp_path):
    miniatures.write("histopathologic", tmp_path)
    data = config_of("histopathologic", tmp_path)["data"]
    names = [row.split(",")[0] for row in (tmp_path / "sample_submission.csv").read_text().splitlines()[1:]]
    table(tmp_path / "sample_submission.csv", ["id", "label"], [(n, 0) for n in [*names, f"{names[0]}.tif"]])
    refused(data, f"test/{names[0]}.tif", f"{names[0]!r} and '{names[0]}.tif'")


def test_a_stale_sample_is_refused_with_its_ids(tmp_path):
    miniatures.write("cassava", tmp_path)
    table(tmp_path / "sample_submission.csv", ["image_id", "label"], [("1.jpg", 4)])
    refused(config_of("cassava", tmp_path)["data"], "'1.jpg'", "'2216849948.jpg'", "sample_submission.csv")


def test_thousands_of_classes_of_one_picture_each(tmp_path):
    content = encoded(0, 0)
    for number in range(2000):
        put(tmp_path / "train" / f"{number}.png", content)
    table(tmp_path / "labels.csv", ["id", "label"], [(number, f"w {number:05d}") for number in range(2000)])
    built = manifest.build(DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}, threads=2)
    assert len(built.info["classes"]) == 2000 and len(set(manifest.targets(built.table, built.info))) == 2000
    found = folds.assign(built.table, built.info, {"method": "fastai07", "folds": 5}, 0)
    assert found["fold"].value_counts().tolist() == [400] * 5


def test_names_by_pattern_may_tell_ids_and_groups(tmp_path):
    for number in range(6):
        put(
            tmp_path / "train" / f"p{number // 2}" / f"{'ab'[number % 2]}-{number:04d}.png", encoded(number % 2, number)
        )
    put(tmp_path / "train" / "cover.png", encoded(0, 9))
    pattern = r"^(?P<group>p\d)/(?P<label>[a-z])-(?P<id>\d+)"
    data = DEFAULTS | {"root": str(tmp_path), "source": "filename", "pattern": pattern}
    refused(data, "train/cover.png", "does not match data.pattern")
    built = manifest.build(data | {"bad_images": "skip"})
    assert built.table["id"].tolist() == ["0000", "0002", "0004", "0001", "0003", "0005"]
    assert built.table["group"].tolist() == ["p0", "p1", "p2"] * 2 and built.info["classes"] == ["a", "b"]


# ---- COCO


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda c: c.pop("categories"), ["no list 'categories'", "data.labels"]),
        (lambda c: c["annotations"][3].update(category_id=4), ["annotation 4", "category 4"]),
        (lambda c: c["annotations"][3].update(image_id=-1), ["annotation 4", "image -1"]),
        (lambda c: c["images"][1].pop("file_name"), ["image 2", "'file_name'"]),
        (lambda c: c["images"][1].update(file_name="../x.jpg"), ["image 2", "'../x.jpg'", "out of the data folder"]),
        (lambda c: c["images"][1].update(file_name="x.jpg"), ["image 2: no such file"]),
        (lambda c: c["categories"][1].pop("id"), ["category 2", "'id'"]),
        (lambda c: c["annotations"].pop(0), ["image 1: no label"]),
    ],
)
def test_broken_coco_files_are_named(tmp_path, change, parts):
    miniatures.write("inaturalist2019", tmp_path)
    content = json.loads((tmp_path / "train2019.json").read_text())
    change(content)
    (tmp_path / "train2019.json").write_text(json.dumps(content))
    refused(config_of("inaturalist2019", tmp_path)["data"], *parts)


def test_coco_pictures_may_have_several_labels_or_none(tmp_path):
    miniatures.write("inaturalist2019", tmp_path)
    content = json.loads((tmp_path / "train2019.json").read_text())
    extra = [content["annotations"][0] | {"category_id": 1009}, dict(content["annotations"][0])]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1] + extra
    (tmp_path / "train2019.json").write_text(json.dumps(content))
    data = config_of("inaturalist2019", tmp_path)["data"]
    built = manifest.build(data | {"label": "name"})
    hot = manifest.targets(built.table, built.info)
    assert built.info["task"] == "multi" and hot[:3].sum(1).tolist() == [2, 0, 1]
    assert "999" in built.info["classes"]
    refused(data | {"multi": False}, "1 pictures have several labels", "image 1: 0, 1009")
    refused(data | {"label": "names"}, "category 1 has no 'names'", "did you mean 'name'")
    refused(data | {"label": "supercategory"}, "category 2", "'Plants'")


def test_the_listing_sees_a_corrected_label_in_json(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    first = listing_digest(tmp_path)
    (tmp_path / "a.json").write_text("[2]")
    assert listing_digest(tmp_path) != first


# ---- extras, where their libraries are


def test_a_7z_archive_is_a_folder_too(zipped, tmp_path):
    py7zr = pytest.importorskip("py7zr")
    expected = manifest.build(zipped)
    with zipfile.ZipFile(tmp_path / "train.zip") as file:
        file.extractall(tmp_path / "unpacked")
    with py7zr.SevenZipFile(tmp_path / "train.7z", "w") as file:
        file.writeall(tmp_path / "unpacked" / "in", "in")
    built = manifest.build(zipped | {"train": "train.7z/in"}, threads=2)
    assert built.table.drop(columns="path").equals(expected.table.drop(columns="path"))
    (tmp_path / "train.7z").write_bytes((tmp_path / "train.7z").read_bytes()[:200])
    refused(zipped | {"train": "train.7z/in"}, "train.7z")


def test_a_7z_archive_without_its_library_is_told(zipped, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py7zr", None)
    (tmp_path / "train.7z").write_bytes(b"7z")
    refused(zipped | {"train": "train.7z"}, "train.7z", "needs the package py7zr", "envs/requirements-extra.txt")


BSON = {"labels": "train.bson", "id": "_id", "label": "category_id", "train": "train.bson", "test": "test.bson"}
BSON["sample_submission"] = "sample_submission.csv"


def test_pictures_in_bson_documents(tmp_path, monkeypatch):
    pytest.importorskip("bson", reason="pymongo (envs/requirements-extra.txt) is not installed")
    monkeypatch.chdir(tmp_path)
    wanted = miniatures.write("cdiscount", tmp_path / "data")
    config = TINY | {"run": "cdiscount", "data": {"source": "csv", "root": "data", **BSON}}
    run_in_this_process(config, "results/cdiscount/submission.csv")
    assert checker.faults("cdiscount", tmp_path / "results/cdiscount/submission.csv", wanted) == []
    table, info = manifest.read_manifest(next((tmp_path / "results/cache").glob("data-*")))
    assert table["path"][1] == "train.bson/10" and info["classes"] == ["1000010653", "1000010660", "1000010667"]
    shown = images.open_image(Store("data", info["reading"]).read("train.bson/10"))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(images.open_image(io.BytesIO(encoded(1, 1, "JPEG")))))


def test_broken_bson_files_are_named(tmp_path):
    bson = pytest.importorskip("bson", reason="pymongo (envs/requirements-extra.txt) is not installed")
    data = DEFAULTS | BSON | {"root": str(tmp_path)}
    miniatures.write("cdiscount", tmp_path)
    whole = (tmp_path / "train.bson").read_bytes()
    for content, words in [
        (whole[:-7], "document 24 is cut off"),
        (whole + b"\0\0\0", "document 25 is cut off"),
        (whole + b"\x06\0\0\0\0\0", "document 25 is no BSON"),
        (whole + bson.encode({"category_id": 1}), "document 25 has no '_id' (data.id)"),
        (whole + bson.encode({"_id": -1}), "document 25 and document 1 differ in 'category_id'"),
        (whole + bson.encode({"_id": 9, "category_id": 1}), "the id '9' is that of an earlier one"),
        (whole + bson.encode({"_id": -1, "category_id": 1000010653, "imgs": []}), "no imgs[0].picture"),
    ]:
        (tmp_path / "train.bson").write_bytes(content)
        refused(data, "train.bson", words)


def test_a_bson_file_without_its_library_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bson", None)
    for name in ("train.bson", "test.bson"):
        (tmp_path / name).write_bytes(b"\x05\0\0\0\0")
    data = DEFAULTS | BSON | {"root": str(tmp_path), "sample_submission": None}
    refused(data, ".bson", "needs the package pymongo", "envs/requirements-extra.txt")


@pytest.mark.parametrize(("meaning", "expected"), [("MONOCHROME2", [0, 64, 255]), ("MONOCHROME1", [255, 191, 0])])
def test_a_dicom_picture(meaning, expected):
    pydicom = pytest.importorskip("pydicom")
    values = np.array([[0, 1000, 4000]], np.uint16)
    file = pydicom.Dataset()
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 1, 3, 1, meaning
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelData, file.SOPClassUID, file.SOPInstanceUID = values.tobytes(), "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    content = io.BytesIO()
    pydicom.dcmwrite(content, file, enforce_file_format=True)
    image, mode = images.decode(content.getvalue())
    assert np.asarray(image)[0, :, 1].tolist() == expected and mode == f"DICOM {meaning}"
    assert np.asarray(images.open_image(content.getvalue(), (0, 8000)))[0, 2, 0] in (127, 128)
    with pytest.raises(images.BadImage, match="not a readable DICOM"):
        images.decode(content.getvalue()[:250])
