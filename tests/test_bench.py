"""The benchmark runs, names the rows that are asked for, and keeps its contract: a machine and rows with a name and a ratio."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
ASKED_FOR = {
    *("recipe_vs_fastai", "recipe_vs_fastai_tuned", "frozen_vs_fastai", "activations_share_of_matmul"),
    *("decode_resize_vs_pillow", "packed_read_vs_decode"),
}


@pytest.fixture
def bench(tmp_path):
    """Runs a copy of bench/run.py, whose results lie beside it."""
    for name in ("bench", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(tmp_path / "bench" / "run.py"), "--threads", "1", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    run.results = tmp_path / "bench" / "results"
    return run


def test_a_row_is_measured_written_and_drawn(bench):
    done = bench("packed_read_vs_decode")
    assert done.returncode == 0, done.stderr
    assert "packed_read_vs_decode" in done.stdout
    (path,) = bench.results.glob("*.json")
    told = json.loads(path.read_text())
    assert told["machine"] == path.stem
    (row,) = told["rows"]
    assert row["name"] == "packed_read_vs_decode"
    assert row["low"] <= row["ratio"] <= row["high"] and row["ratio"] > 2  # 20 is asked for, of a quiet machine
    assert set(row["seconds"]) == {"ours", "peer"}
    assert row["versions"]["torch"] and row["load"] >= 0
    words = [node.text for node in ElementTree.parse(path.with_suffix(".svg")).iter() if node.text]
    assert "packed_read_vs_decode" in words


def test_rows_are_listed_and_unknown_ones_refused(bench):
    listed = bench("--list").stdout
    assert {line.split()[1] for line in listed.splitlines()} > ASKED_FOR
    assert all(line.split()[0] in ("pixels", "views") for line in bench("--list", "pixels,views").stdout.splitlines())
    wrong = bench("nonsense")
    assert wrong.returncode and "nonsense" in wrong.stderr
