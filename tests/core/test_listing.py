"""What counts as data below a data root, and how a root may be written."""

import pytest

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.core.files import UserError
from eightfold.core.listing import data_files


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    (tmp_path / "work" / "data" / "train").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "work" / "data" / "train" / "a.png").write_bytes(b"a")
    monkeypatch.chdir(tmp_path / "work")


def plan_of(root, **data) -> Plan:
    return Plan(resolve({"data": {"source": "folders", "root": str(root), **data}}))


def test_notes_beside_the_images_are_no_data_but_what_the_config_names_is(tmp_path):
    folder = tmp_path / "work" / "data"
    before = plan_of("data").manifest_settings
    for name in ("notes.txt", "README.md", "train/paper.PDF"):
        (folder / name).write_text("words")
    assert plan_of("data").manifest_settings == before
    (folder / "b.png").write_bytes(b"b")
    assert plan_of("data").manifest_settings != before
    assert [entry.name for entry in data_files({"root": "data", "labels": "./notes.txt"})] == [
        "b.png",
        "notes.txt",
        "train/a.png",
    ]


def test_a_root_is_the_same_data_however_it_is_written(tmp_path):
    ways = ["data", "./data/", "data/../data", tmp_path / "work" / "data"]
    assert (
        len({plan_of(way).data_folder for way in ways})
        == len({str(plan_of(way).manifest_settings) for way in ways})
        == 1
    )
    assert plan_of("../beside").root == "../beside" and plan_of(tmp_path / "beside").root == str(tmp_path / "beside")
    assert plan_of("../beside").data_folder != plan_of("data").data_folder


@pytest.mark.parametrize("root", [".", "..", "/", "results", "data/.."])
def test_a_root_that_holds_the_results_is_refused_since_it_would_never_settle(root, tmp_path):
    (tmp_path / "work" / "results").mkdir()
    with pytest.raises(UserError, match=r"data\.root: .* holds this workflow's own folder results"):
        plan_of(root).check()


def test_a_root_within_the_results_is_not(tmp_path):
    inside = tmp_path / "work" / "results" / "cache" / "mine" / "train"
    inside.mkdir(parents=True)
    plan = plan_of("results/cache/mine", sample_submission="s.csv")
    plan.check()
    assert plan.root == "results/cache/mine"
