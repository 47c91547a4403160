"""What the project is set up by: pins, Makefile, profiles, the score of the demo."""

import ast
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import score_held_back
import yaml

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"torch": "pytorch"}
IMPORT_NAMES = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn"}
IMPORT_NAMES |= {"bson": "pymongo", "mlflow": "mlflow-skinny"}
make = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "envs" / name).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-r"))]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*(post\d+)?", line) for line in wanted), wanted
    return dict(line.split("==") for line in wanted)


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_pip_and_conda_have_the_same_versions():
    for file, lists in {
        "eightfold.yaml": ["requirements.txt"],
        "extra.yaml": ["requirements.txt", "requirements-extra.txt"],
    }.items():
        lines = yaml.safe_load((ROOT / "envs" / file).read_text())["dependencies"]
        conda = dict(line.split("=") for line in lines if not line.startswith("python="))
        pip = {name: version for wanted in lists for name, version in pins(wanted).items()}
        assert conda == {CONDA_NAMES.get(name, name): version for name, version in pip.items()}


def test_a_package_of_two_lists_has_one_version():
    lists = [path.name for path in (ROOT / "envs").glob("requirements*.txt")]
    versions = {(name, version) for wanted in lists for name, version in pins(wanted).items()}
    assert len(lists) == 5 and len(versions) == len({name for name, _ in versions})


def test_containers_install_the_pinned_list_on_condas_python():
    conda = yaml.safe_load((ROOT / "envs" / "eightfold.yaml").read_text())["dependencies"]
    python = next(line.partition("=")[2] for line in conda if line.startswith("python="))
    for name, copied in {"Dockerfile": r"COPY (\S+) (\S+)", "eightfold.def": r"%files\n +(\S+) (\S+)"}.items():
        text = (ROOT / "envs" / name).read_text()
        assert re.search(r"^F(?:ROM|rom:) (\S+)$", text, re.MULTILINE)[1] == f"python:{python}-slim"
        source, target = re.search(copied, text).groups()
        assert source == "envs/requirements.txt" and (ROOT / source).is_file()
        # Nothing but the list is installed, so its versions are the container's.
        assert re.findall(r"pip install (.+?)(?: &&|$)", text, re.MULTILINE) == [
            f"--no-cache-dir --requirement {target}"
        ]


def test_every_module_that_is_imported_is_pinned():
    modules = set()
    folders = ("scripts", "tests", "tests/*", "bench")
    ours = {path.stem for folder in folders for path in ROOT.glob(f"{folder}/*.py")} | {"torture"}
    for path in tracked_files():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    modules.add(node.module.split(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - ours - {"eightfold"}
    assert {IMPORT_NAMES.get(name, name) for name in foreign} <= {
        *pins("requirements.txt"),
        *pins("requirements-dev.txt"),
        *pins("requirements-extra.txt"),
        *pins("requirements-bench.txt"),
        *pins("requirements-solar.txt"),
    }


def test_no_registry_and_no_folder_of_one_machine_stands_in_the_project():
    registry = re.compile(
        r"://([a-z]+\.)?(py[a-z]+|registry|deb|files\.py[a-z]+)\.([a-z]+\.)?(org|com)|--(extra-)?index[-]url"
    )
    machine = re.compile(r"(?<![\w.])/(work|home)/[a-z]")
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        assert not registry.search(text), path
        assert not machine.search(text), path


@make
def test_the_makefile_has_its_targets():
    def planned(*words: str) -> str:
        command = ["make", "--dry-run", "--no-print-directory", *words]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    pipeline = ["submission", "report", "explore", "lr_find", "evaluate", "clean_cache"]
    for target in [
        *pipeline,
        "export",
        "extras",
        "compare",
        "submit",
        "solar",
        "plan",
        "score",
        "torture",
        "doctor",
        "audit",
        "unlock",
        "test",
        "lint",
        "format",
        "help",
    ]:
        assert planned(target), target
    assert planned().index("snakemake look --cores") < planned().index("snakemake submission --cores")


@make
@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock here")
class TestMakeVenv:
    """The set-up with an empty list of requirements: the real thing but for the packages."""

    @pytest.fixture
    def room(self, tmp_path):
        room = tmp_path / "a folder"
        (room / "envs").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", room)
        for name in (
            "requirements.txt",
            "requirements-extra.txt",
            "requirements-dev.txt",
            "requirements-bench.txt",
            "requirements-solar.txt",
        ):
            (room / "envs" / name).write_text("")
        (room / "scripts").mkdir()
        (room / "scripts" / "score_held_back.py").write_text("print('ran')")
        return room

    @staticmethod
    def run(room, *words: str) -> str:
        command = ["make", "--no-print-directory", "score", f"PYTHON={sys.executable}", *words]
        result = subprocess.run(command, cwd=room, capture_output=True, text=True)
        return result.stdout + result.stderr

    def test_made_once_and_mended_where_it_is_broken(self, room):
        assert "making .venv" in self.run(room)
        assert self.run(room) == "ran\n"
        (room / ".venv" / "bin" / "python").unlink()  # the system's Python went away
        assert "making .venv" in self.run(room)
        (room / "envs" / "requirements.txt").write_text("# another list\n")
        output = self.run(room)
        assert "installing" in output and "making .venv" not in output
        (room / "envs" / "requirements.txt").write_text("")
        assert "installing" in self.run(room)  # the first list's stamp went with the second's
        for stamp in (room / ".venv").glob(".ready-*"):  # killed while pip worked
            stamp.rename(room / ".venv" / ".installing")
        assert "making .venv" in self.run(room)
        assert self.run(room) == "ran\n"

    def test_an_old_python_is_refused_in_words(self, room):
        (room / "python3.9").write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.1\nexit 1\n")
        (room / "python3.9").chmod(0o755)
        assert "Python 3.11 or later is needed; ./python3.9 is Python 3.9.1" in self.run(room, "PYTHON=./python3.9")
        assert not (room / ".venv").exists()


def test_every_profile_repeats_what_a_replaced_default_would_lose():
    for path in (ROOT / "profiles").glob("*/profile.yaml"):
        profile = yaml.safe_load(path.read_text())
        assert profile["rerun-triggers"] == ["mtime", "params", "input", "software-env"], path
        assert profile["rerun-incomplete"] is True and profile["benchmark-extended"] is True, path
        # Beside a cluster the workflow itself counts the GPUs; jobs of a cluster are limited by the profile.
        local = path.parent.name == "default"
        assert local != any(str(entry).startswith("gpu=") for entry in profile.get("resources", [])), path


def test_the_check_of_a_clean_machine_can_be_started():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_score_of_a_submission(tmp_path):
    (tmp_path / "held_back.csv").write_text("id,label\n01,cat\n02,dog\n03,dog\n")
    (tmp_path / "submission.csv").write_text("id,cat,dog\n03,0.5,1.5\n01,0.8,0.2\n02,1,0\n")
    line = score_held_back.main(tmp_path / "held_back.csv", tmp_path / "submission.csv")
    expected = -(math.log(0.75) + math.log(0.8) + math.log(1e-15)) / 3
    assert line.startswith(f"accuracy 0.6667, log loss {expected:.4f}, ROC AUC 0.5000, 3 images")


def test_the_area_that_is_scored_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    positive = random.integers(0, 5, 60) / 4  # many ties
    truth = {str(row): "ab"[label] for row, label in enumerate(random.integers(0, 2, 60))}
    rows = [{"id": str(row), "a": str(1 - p), "b": str(p)} for row, p in enumerate(positive)]
    expected = roc_auc_score([truth[row["id"]] == "b" for row in rows], positive)
    assert score_held_back.roc_auc(truth, rows, "id") == pytest.approx(expected)
    three = [row | {"c": "0"} for row in rows]
    assert score_held_back.roc_auc(truth, three, "id") is None
    assert score_held_back.roc_auc(dict.fromkeys(truth, "a"), rows, "id") is None


def test_score_wants_each_id_once():
    with pytest.raises(ValueError, match="ids"):
        score_held_back.score({"1": "a", "2": "a"}, [{"id": "1", "a": "1"}, {"id": "1", "a": "1"}], "id")
