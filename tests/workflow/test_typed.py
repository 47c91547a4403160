"""What is typed to make reaches its program as it was typed, and is never run as code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.cli import parse_config

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")

ODD = [
    "a b'c$(touch pwned).yaml",
    "$(shell touch pwned)",
    '"; touch pwned; "',
    "'; touch pwned; '",
    "`touch pwned`",
    "x & touch pwned #",
    "${PATH}",
    "$$ \\ * ?",
]
# Stands for .venv's Python: it notes what it is called with, and says that it is whole where it is asked.
NOTES = f"""#!{sys.executable} -SE
import json, os, sys
open("cache", "w").write(os.environ.get("XDG_CACHE_HOME", ""))
if sys.argv[1] == "-c":
    print("whole")
else:
    open("calls", "a").write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def room(tmp_path) -> Path:
    """The Makefile, with a set-up that is done."""
    room = tmp_path / "a folder"
    (room / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", room)
    shutil.copytree(ROOT / "envs", room / "envs")
    python = room / ".venv/bin/python"
    python.write_text(NOTES)
    python.chmod(0o755)
    all_lists = "cat envs/requirements.txt envs/requirements-extra.txt envs/requirements-dev.txt | cksum | tr -cd '0-9'"
    digest = subprocess.run(all_lists, shell=True, cwd=room, check=True, capture_output=True, text=True).stdout
    for kind in ("ready", "tools", "extra"):
        (room / f".venv/.{kind}-{digest}").touch()
    bench = subprocess.run(all_lists.replace("-extra", "-bench").replace(" envs/requirements-dev.txt", ""), shell=True, cwd=room, check=True, capture_output=True, text=True).stdout  # fmt: skip
    (room / f".venv/.bench-{bench}").touch()
    return room


def calls(room: Path, *words: str, **environment: str) -> list[list[str]]:
    """What `make` with these words calls its Python with; what is not a script of ours is left out."""
    (room / "calls").unlink(missing_ok=True)
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=room,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(room.rglob("pwned"))
    return [json.loads(line) for line in (room / "calls").read_text().splitlines()]


def snakemake_calls(room: Path, *words: str, **environment: str) -> list[list[str]]:
    return [call[2:] for call in calls(room, *words, **environment) if call[:2] == ["-m", "snakemake"]]


@pytest.mark.parametrize(
    ("by", "text"), [*(("word", text) for text in ODD), *(("environment", text) for text in ODD[:2])]
)
def test_a_config_is_the_file_that_was_typed(room, text, by):
    given = ([f"CONFIG={text}"], {}) if by == "word" else ([], {"CONFIG": text})

    def made(*words: str) -> list[list[str]]:
        return calls(room, *words, *given[0], **given[1])

    look, submission = [call[2:] for call in made("submission") if call[:2] == ["-m", "snakemake"]]
    assert look == ["look", "--cores", "all", "--configfile", text, "--quiet"]
    assert submission == ["submission", "--cores", "all", "--configfile", text]
    assert ["scripts/check_config.py", text] in made("submission")
    assert made("doctor") == [["scripts/doctor.py", text]]
    assert made("unlock") == [["-m", "snakemake", "--unlock", "--configfile", text]]
    assert ["scripts/forecast.py", text] in made("plan")


@pytest.mark.parametrize("text", ODD)
def test_folders_names_and_networks_are_what_was_typed(room, text):
    assert calls(room, "new", f"NAME={text}", f"DATA={text}", f"HOURS={text}") == [
        ["scripts/new_config.py", text, text, "", "", text]
    ]
    [predict] = snakemake_calls(room, "predict", f"IMAGES={text}")
    assert predict[:2] == ["predict_new", "--config"] and predict[3:] == ["--cores", "all"]
    # As Snakemake reads it.
    assert parse_config([predict[2]]) == {"predict": {"images": text}}
    assert snakemake_calls(room, "trunks", f"TRUNKS={text}")[-1] == [
        *("trunks", "--config", f"trunks={text}", "--cores", "all")
    ]


@pytest.mark.parametrize("text", ODD[:4])
def test_numbers_and_programs_are_text_too(room, text):
    assert snakemake_calls(room, "quick", f"CORES={text}")[-1] == ["quick", "--cores", text]
    assert snakemake_calls(room, "plan", f"TARGET={text}")[0][0] == text
    for call in calls(room, "bench", "ROWS=pixels linear", f"THREADS={text}"):
        assert call == ["bench/run.py", "pixels", "linear", "--threads", text]
    torture = calls(room, "torture", f"KILLS={text}")
    assert torture[0] == ["tests/torture/jobs.py", text, "torture/jobs.json"]


def test_without_a_word_each_has_its_default(room):
    assert calls(room, "report")[-1] == ["-m", "snakemake", "report", "--cores", "all"]
    assert ["scripts/check_config.py", "config.yaml"] in calls(room, "report")
    assert calls(room, "doctor") == [["scripts/doctor.py"]]
    assert snakemake_calls(room, "plan")[0] == ["submission", "--dry-run", "--quiet", "host", "--cores", "all"]
    assert snakemake_calls(room, "trunks")[-1] == ["trunks", "--cores", "all"]


def test_the_checks_before_a_run_are_of_one_config(room):
    """The manifest and the folds of a config are looked at once; another config's are looked at by themselves."""
    assert [call[0] for call in snakemake_calls(room, "report", "CONFIG=a/b.yaml")] == ["look", "report"]
    assert [call[0] for call in snakemake_calls(room, "report", "CONFIG=a/b.yaml")] == ["report"]
    assert [call[0] for call in snakemake_calls(room, "report", "CONFIG=c.yaml")] == ["look", "report"]


def test_where_the_home_folder_cannot_be_written_its_caches_are_kept_here(room, tmp_path, monkeypatch):
    """Snakemake makes ~/.cache/snakemake before it reads a Snakefile, and died of a home that is not there."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for home, expected in {str(tmp_path): "", "/proc/nobody": str(room / ".snakemake/cache")}.items():
        snakemake_calls(room, "report", HOME=home)
        assert (room / "cache").read_text() == expected
    snakemake_calls(room, "report", HOME="/proc/nobody", XDG_CACHE_HOME=str(tmp_path))
    assert (room / "cache").read_text() == str(tmp_path)
