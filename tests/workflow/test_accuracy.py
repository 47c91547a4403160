"""bench/accuracy.py: intervals, table, plot and the choice of epochs, from made-up cells; one real cell, and its contract."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))

import accuracy_data_sets  # noqa: E402
import accuracy_methods  # noqa: E402
import accuracy_table  # noqa: E402
from measure import Skipped  # noqa: E402

from eightfold.core.files import UserError  # noqa: E402


def cell(data: str, method: str, seed: int, loss: float, seconds: float, **more) -> dict:
    figures = {"accuracy": 1 - loss, "log_loss": loss, "processor_s": seconds, "wall_s": seconds}
    figures["machine"] = "amd_epyc_2_cores"
    return {"data": data, "method": method, "seed": seed, **figures, **more}


CELLS = [
    cell("solar", "fastai", 0, 0.4, 1000, roc_auc=0.88),
    cell("solar", "quick", 1, 0.34, 70, roc_auc=0.91),
    cell("solar", "quick", 0, 0.32, 60, roc_auc=0.93, machine="xeon_4_cores"),
    cell("digits", "default", 0, 0.08, 240),
]


@given(st.lists(st.floats(0, 10), min_size=2, max_size=6))
def test_an_interval_is_student_s(values):
    mean, half = accuracy_table.mean_and_half(values)
    error = stats.sem(values)
    assert mean == pytest.approx(np.mean(values))
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert (mean - half, mean + half) == pytest.approx((low, high))


def test_one_seed_has_no_interval():
    assert accuracy_table.mean_and_half([0.5]) == (0.5, None)
    assert accuracy_table.with_half([0.5], 3) == "0.500"


def test_the_table_has_a_row_for_each_data_set_and_method_in_order():
    head, _, *rows = accuracy_table.table(CELLS).splitlines()
    cells = [[word.strip() for word in row.strip("|").split("|")] for row in rows]
    assert len(head.split("|")) == 10
    assert [row[:3] for row in cells] == [
        [accuracy_data_sets.DATA["digits"].title, "default", "1"],
        [accuracy_data_sets.DATA["solar"].title, "quick", "2"],
        [accuracy_data_sets.DATA["solar"].title, "fastai", "1"],
    ]
    assert cells[0][3:] == ["0.920", "0.080", "", "240", "amd epyc 2 cores"]
    assert cells[1][7] == "xeon 4 cores, amd epyc 2 cores"
    assert cells[1][4].startswith("0.330 ± ") and cells[1][5].startswith("0.920 ± ") and cells[2][6] == "1,000"


def test_the_plot_shows_every_method_and_data_set(tmp_path):
    accuracy_table.draw(CELLS, tmp_path / "plot.svg")
    words = " ".join(node.text for node in ElementTree.parse(tmp_path / "plot.svg").iter() if node.text)
    for expected in (
        "quick",
        "fastai",
        "default",
        accuracy_data_sets.DATA["solar"].title,
        accuracy_data_sets.DATA["digits"].title,
    ):
        assert expected in words
    assert "mathdefault" not in words
    before = (tmp_path / "plot.svg").read_bytes()
    accuracy_table.draw(CELLS[::-1], tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_bytes() == before


@given(st.floats(0, 60), st.floats(0.5, 100), st.integers(1, 10), st.floats(1, 5000))
def test_the_epochs_that_a_budget_has_room_for(rest, each, epochs, budget):
    found = accuracy_methods.epochs_within(budget, rest + each * (epochs + 1), each * (epochs + 1), epochs)
    assert found >= 1
    if found > 1:
        assert rest + each * (found + 1) <= budget * (1 + 1e-9)
    assert rest + each * (found + 2) > budget * (1 - 1e-9)


def test_a_run_of_the_same_seconds_is_given_the_same_epochs():
    assert accuracy_methods.epochs_within(110.0, 110.0, 100.0, 4) == 4


def test_the_same_seconds_need_both_cells():
    wanting = accuracy_methods.Cell(
        accuracy_data_sets.DATA["digits"], None, 0, 1, None, {"default": {"processor_s": 3.0}}
    )
    with pytest.raises(Skipped, match="fastai"):
        accuracy_methods.fastai_same_seconds(wanting)
    cells = {"default": {"processor_s": 3.0, "machine": "one"}, "fastai": {"processor_s": 2.0, "machine": "other"}}
    with pytest.raises(Skipped, match="different machines"):
        accuracy_methods.fastai_same_seconds(
            accuracy_methods.Cell(accuracy_data_sets.DATA["digits"], None, 0, 1, None, cells)
        )


def test_the_table_replaces_what_stood_between_its_marks():
    text = f"before\n{accuracy_table.BEGIN}\nold\n{accuracy_table.END}\nafter\n"
    assert accuracy_table.put_table(text, "| new |") == text.replace("old", "| new |")
    with pytest.raises(UserError, match="marks"):
        accuracy_table.put_table("no marks", "| new |")
    accuracy_table.put_table(accuracy_table.README.read_text(encoding="utf-8"), "| new |")


@pytest.mark.parametrize("name", accuracy_data_sets.DATA)
def test_the_config_of_a_cell_is_the_data_set_s_own_on_our_data(name, tmp_path):
    from eightfold.config.resolve import resolve

    job = accuracy_data_sets.LaidOut(tmp_path, tmp_path / "held_back.csv", ".png", "none")
    made = {
        method: resolve(
            accuracy_methods.our_config(
                accuracy_methods.Cell(accuracy_data_sets.DATA[name], job, 3, 1, tmp_path, {}), method
            )
        )
        for method in ("default", "head", "folds")
    }
    assert {config["seed"] for config in made.values()} == {3}
    assert all(
        config["data"]["root"] == str(tmp_path) and config["data"]["source"] == "csv" for config in made.values()
    )
    assert made["folds"]["split"]["use"] == [0, 1, 2, 3, 4] and made["default"]["split"]["use"] == [0]
    assert made["head"]["recipe"] == [
        stage
        for stage in made["default"]["recipe"]
        if stage["train"] == "head" and stage["size"] == made["default"]["recipe"][0]["size"]
    ]
    assert made["head"]["recipe"] and len(made["default"]["recipe"]) > len(made["head"]["recipe"])


def test_the_name_of_an_ant_or_bee_to_predict_does_not_say_its_class(tmp_path, monkeypatch):
    from PIL import Image

    for split, label in (("train", "ants"), ("train", "bees"), ("valid", "ants"), ("valid", "bees")):
        folder = tmp_path / "photos" / split / label
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "1.jpg")
    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr(accuracy_data_sets, "DATA_FOLDER", tmp_path / "photos")
    monkeypatch.setattr(accuracy_data_sets, "DATA_WEIGHTS", tmp_path / "weights.pth")
    made = accuracy_data_sets.lay_out_ants_bees(tmp_path / "made")
    assert [path.name for path in sorted((made.root / "test").iterdir())] == ["0000.jpg", "0001.jpg"]
    assert (made.root / "labels.csv").read_text() == "id,label\nants_1.jpg,ants\nbees_1.jpg,bees\n"
    assert made.held_back.read_text() == "id,label\n0000.jpg,ants\n0001.jpg,bees\n"
    monkeypatch.setattr(accuracy_data_sets, "DATA_FOLDER", tmp_path / "absent")
    with pytest.raises(Skipped, match="EIGHTFOLD_BENCH_DATA"):
        accuracy_data_sets.lay_out_ants_bees(tmp_path / "again")


def test_a_cell_is_measured_kept_and_not_measured_again(tmp_path):
    words = [sys.executable, str(ROOT / "bench" / "accuracy.py"), "--data", "digits", "--method", "scikit-learn"]
    words += ["--seed", "0", "--threads", "1", "--results", str(tmp_path / "accuracy.json")]
    first = subprocess.run(words, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    (kept,) = json.loads((tmp_path / "accuracy.json").read_text())["cells"]
    assert kept["images"] == 360 and kept["accuracy"] > 0.8 and kept["processor_s"] > 0 and kept["versions"]["torch"]
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 0 and "s of processor" not in again.stdout and "scikit-learn" in again.stdout
    assert (tmp_path / "accuracy.svg").exists()
