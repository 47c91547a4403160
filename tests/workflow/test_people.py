"""What a finished run is good for, on one tiny run: new images, export, model card, comparison, a workflow around it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_compare import made_run

from eightfold.core.files import read_json
from eightfold.predict import tuning
from eightfold.predict.export import Classifier
from eightfold.review import model_card

ROOT = Path(__file__).parents[2]
CONFIG = """
run: tiny
data: {source: folders, root: data}
split: {folds: 2, use: [0, 1]}
model: {arch: squeezenet1_1, weights: none}
recipe: [{name: head, size: 32, train: head, augment: false, lr: 0.01}]
tta: {views: 0}
batch_size: 8
device: {kind: cpu, precision: float32}
"""


def snakemake(room, *words, fails=False) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *words]
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def room(tmp_path_factory):
    """A folder with the workflow and a run that is finished: a head on two folds of 16 images."""
    room = tmp_path_factory.mktemp("people")
    for name in ("Snakefile", "rules", "scripts", "schemas", "profiles", "envs"):
        (room / name).symlink_to(ROOT / name)
    (room / "config.yaml").write_text(CONFIG)
    noise = np.random.default_rng(0)
    for split, kinds in (("train", ("dark", "light")), ("test", ("",))):
        for kind in kinds:
            (room / "data" / split / kind).mkdir(parents=True)
            for i in range(8 if kind else 3):
                pixels = noise.integers(0, 120, (40, 48, 3)) + (130 if kind == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(room / "data" / split / kind / f"{kind}{i}.png")
    snakemake(room, "results/tiny/submission.csv", "results/tiny/export/model.pt2", "results/tiny/model_card.md")
    return room


def cells(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_new_images_get_what_the_run_itself_would_say(room):
    shutil.copytree(room / "data" / "test", room / "new ones")
    (room / "new ones" / "broken.png").write_bytes(b"\x89PNG but no more")
    (room / "new ones" / "notes.txt").write_text("not an image")
    told = snakemake(room, "--config", "predict={images: 'new ones'}", "--", "predict_new")
    assert "broken.png" in told and "train head" not in told
    folder = room / "results" / "tiny" / "predict" / "new_ones"
    head, *rows = cells(folder / "predictions.csv")
    assert head == ["path", "prediction", "probability", "dark", "light"]
    own = {row[0]: [float(x) for x in row[1:]] for row in cells(room / "results/tiny/predictions/test.csv")[1:]}
    assert len(rows) == len(own) == 3  # both folds' networks, averaged
    for row in rows:
        chances = [float(x) for x in row[3:]]
        assert np.allclose(chances, own[Path(row[0]).stem] if Path(row[0]).stem in own else own[row[0]], atol=1e-6)
        assert row[1] == head[3 + int(np.argmax(chances))] and float(row[2]) == max(chances)
    assert [row[0] for row in cells(folder / "unreadable.csv")] == ["path", "broken.png"]
    assert (folder / "sheet.svg").read_text().count("<image") == 3
    again = ["--config", "predict={images: 'new ones'}", "--", "predict_new"]
    assert "Nothing to be done" in snakemake(room, *again)
    shutil.copy(room / "data/train/dark/dark0.png", room / "new ones" / "more.png")
    told = snakemake(room, *again)
    places = ("look at:   ", "sheet.svg"), ("labels:    ", "predictions.csv"), ("left out:  ", "unreadable.csv")
    last = [f"{word}results/tiny/predict/new_ones/{name}" for word, name in places]
    assert "4 predictions" in told and told.splitlines()[-3:] == last
    last = snakemake(room, "predict_new", fails=True).splitlines()[-1]
    assert last.startswith("Error: predict.images is not set") and last.endswith("make predict IMAGES=folder")


def test_the_exported_program_needs_nothing_of_ours_and_agrees(room):
    folder = room / "results" / "tiny" / "export"
    told = json.loads((folder / "model.pt2.json").read_text())
    assert told["classes"] == ["dark", "light"] and len(told["networks"]) == 2 and told["largest_difference"] < 1e-4
    assert told["tuning"] == json.loads((room / "results" / "tiny" / "tuning.json").read_text())
    program = (
        "import sys, json, torch\n"
        "extra = {'eightfold.json': ''}\n"
        "model = torch.export.load(sys.argv[1], extra_files=extra).module()\n"
        "said = model(torch.full((3, 32, 32, 3), 250.0))\n"
        "print(json.dumps([json.loads(extra['eightfold.json'])['classes'], said.tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(folder / "model.pt2")], capture_output=True, text=True
    )
    classes, said = json.loads(done.stdout)
    assert classes == ["dark", "light"] and np.allclose(np.sum(said, 1), 1) and np.shape(said) == (3, 2)


@pytest.mark.parametrize("single", [True, False])
def test_an_exported_network_is_as_sure_as_the_run_was_tuned_to_be(single):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, 3))
    pixels = 255 * torch.rand(20, 4, 4, 3)
    scale = [0.5] * 3, [0.01] * 3
    made = [Classifier([net], [1.0], [4], scale, single, temperature=t)(pixels).detach().numpy() for t in (1.0, 2.5)]
    assert np.allclose(made[1], tuning.with_temperature(made[0].astype(np.float64), 2.5, not single), atol=1e-5)
    assert not np.allclose(*made, atol=1e-3)


def test_onnx_agrees(room):
    pytest.importorskip("onnxruntime", reason="envs/requirements-extra.txt is not installed")
    pytest.importorskip("onnxscript", reason="envs/requirements-extra.txt is not installed")
    snakemake(room, "results/tiny/export/model.onnx")
    told = json.loads((room / "results/tiny/export/model.onnx.json").read_text())
    assert told["checked"] >= 16 and told["largest_difference"] < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(str(room / "results/tiny/export/model.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["dark", "light"]
    assert session.run(None, {"pixels": np.zeros((5, 32, 32, 3), np.float32)})[0].shape == (5, 2)


def test_the_run_is_shown_in_other_programs_where_the_config_asks(room):
    for name in ("tensorboard", "mlflow", "alembic"):
        pytest.importorskip(name, reason="envs/requirements-extra.txt is not installed")
    made = ["results/tiny/mlflow.json", "results/tiny/tensorboard/fold1/events.out.tfevents.0"]
    told = snakemake(room, "--config", "tracking=[tensorboard, mlflow]", "--", *made)
    assert "train head" not in told and "mlflow ui --backend-store-uri sqlite:///results/mlflow.db" in told
    assert set(json.loads((room / made[0]).read_text())["runs"]) == {"0", "1"}
    assert "track_" not in snakemake(room, "evaluate", "--dry-run", "--config", "tracking=[]")
    assert "track_" in snakemake(
        room, "evaluate", "--dry-run", "--config", "tracking=[mlflow]", "--forcerun", "track_mlflow"
    )


def test_the_model_card_says_what_was_measured(room):
    card = (room / "results/tiny/model_card.md").read_text()
    metrics = json.loads((room / "results/tiny/metrics.json").read_text())
    assert f"{metrics['final']['accuracy']:.4f}" in card and "squeezenet1_1" in card and "16 images to train on" in card


def test_a_hostile_name_does_not_break_the_card():
    assert model_card._cell("a|b\n<script>") == "a\\|b &lt;script>"


def test_the_workflow_is_used_from_another(room):
    """`module:` from a Snakefile elsewhere, with a config of its own."""
    other = room / "other"
    other.mkdir()
    (other / "Snakefile").write_text(
        f"configfile: 'c.yaml'\nmodule eightfold:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n    config: config\n\n"
        "use rule * from eightfold as eightfold_*\n\nrule all:\n    input: 'results/mine/folds.csv'\n    default_target: True\n"
    )
    (other / "c.yaml").write_text(CONFIG.replace("tiny", "mine").replace("root: data", "root: ../data"))
    snakemake(other, "all")
    assert len(cells(other / "results/mine/folds.csv")) == 17


# What snakedeploy 0.17.1 writes; where it is installed it writes it itself.
DEPLOYED = """
configfile: "config/config.yaml"

module eightfold:
    snakefile:
        github("example/eightfold", path="Snakefile", tag="v1")
    config:
        config

use rule * from eightfold
"""


@pytest.fixture(scope="session")
def hosted(tmp_path_factory):
    """The workflow committed and tagged v1, and the environment in which git takes it for a repository of GitHub's."""
    repository, cache = tmp_path_factory.mktemp("origin"), tmp_path_factory.mktemp("git cache")
    for name in ("Snakefile", "rules", "scripts", "schemas", "envs", "profiles", "config.yaml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, repository / name)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "*.py", "*.smk", "*.yaml", "*.html", "*.rst", "*.txt", "Snakefile"]):
        subprocess.run([*git, *words], check=True)
    for words in (["commit", "-qm", "all"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    place = {"GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf", "GIT_CONFIG_COUNT": "1"}
    place |= {"GIT_CONFIG_VALUE_0": "https://github.com/example/eightfold", "XDG_CACHE_HOME": str(cache)}
    return {**os.environ, **place}


def test_snakedeploy_brings_a_workflow_that_runs(room, hosted, tmp_path):
    """Of github(...) the rules find their library in what Snakemake has read of the repository."""
    place = tmp_path / "deployed"
    if tool := shutil.which("snakedeploy"):
        words = [tool, "deploy-workflow", "https://github.com/example/eightfold", str(place), "--tag", "v1"]
        subprocess.run(words, check=True, env=hosted)
    else:
        (place / "workflow").mkdir(parents=True)
        (place / "config").mkdir()
        (place / "workflow" / "Snakefile").write_text(DEPLOYED)
    (place / "config" / "config.yaml").write_text(CONFIG.replace("root: data", f"root: {room / 'data'}"))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "results/tiny/folds.csv"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=hosted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cells(place / "results/tiny/folds.csv") == cells(room / "results/tiny/folds.csv")
    code = [(where / ".snakemake/metadata").glob("*") for where in (place, room)]
    told = [{record["rule"]: record["params"] for record in map(read_json, files)} for files in code]
    assert told[0]["folds"] == told[1]["folds"]  # the same digest of the code: a checkout's results are taken over


def test_a_module_that_is_no_checkout_is_refused_with_what_to_do(tmp_path):
    """Of gitfile(...) Snakemake keeps files under names of its own, from which nothing can be imported."""
    repository = tmp_path / "origin"
    for name in ("Snakefile", "rules", "schemas", "config.yaml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (repository / "flow").mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, repository / "flow" / name)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "Snakefile").write_text(
        f"module eightfold:\n    snakefile: gitfile({str(repository)!r}, path='flow/Snakefile', tag='v1')\n    config: {{'run': 'x'}}\n\n"
        "use rule * from eightfold\n"
    )
    assert "clone the repository" in snakemake(tmp_path, "--dry-run", fails=True)


# ---- comparison


def test_finished_runs_are_compared_without_making_any(room):
    for name in ("one", "two"):
        made_run(room / "results" / name, 0.8, seed=int(name == "two"))
    told = snakemake(room, "compare")
    assert "train head" not in told and (room / "results/compare.html").is_file()
    assert {row[0] for row in cells(room / "results/compare.csv")} >= {"run", "tiny", "one", "two"}
    assert "Nothing to be done" in snakemake(room, "compare")
    made_run(room / "results" / "one", 0.85)
    assert "compare: all finished runs" in snakemake(room, "compare")
