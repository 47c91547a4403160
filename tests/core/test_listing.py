"""What counts as data below a data root, and how a root may be written."""

import os
import signal
import time

import pytest

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.core import contents, listing
from eightfold.core.files import UserError
from eightfold.core.listing import data_files, files_below


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    (tmp_path / "work" / "data" / "train").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "work" / "data" / "train" / "a.png").write_bytes(b"a")
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def at_most_20_s():
    """Who opens a pipe waits for its other end, and /dev/zero has none."""

    def stop(signum, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


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


LITTER = ["@eaDir/a/x.png", "$RECYCLE.BIN/x.png", ".ipynb_checkpoints/x-checkpoint.png", "__MACOSX/x.png", "._x.png"]
LITTER += [
    "Thumbs.db",
    "Desktop.ini",
    "System Volume Information/x.png",
    "#recycle/x.png",
    "lost+found/x.png",
    ".DS_Store",
]


@pytest.mark.parametrize("place", ["", "train/", "train/kind/"])
def test_what_systems_leave_behind_is_nobodys_data(tmp_path, place):
    folder = tmp_path / "work" / "data"
    for name in LITTER:
        path = folder / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a")
    assert [name for name, _ in files_below(folder)] == ["train/a.png"]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".png"])
def test_pipes_devices_and_what_may_not_be_read_do_not_stop_the_parsing(tmp_path, suffix, at_most_20_s, monkeypatch):
    folder = tmp_path / "work" / "data"
    os.mkfifo(folder / f"pipe{suffix}")
    (folder / f"zero{suffix}").symlink_to("/dev/zero")
    (folder / f"locked{suffix}").write_text("a")
    (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
    whole = listing.file_digest

    def locked(path, *algorithm):  # as for a user who may not: the tests may run as root
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return whole(path, *algorithm)

    monkeypatch.setattr(listing, "file_digest", locked)
    monkeypatch.setattr(contents, "file_digest", locked)
    plan = plan_of("data")
    before = plan.manifest_settings
    assert {entry.name: entry.size for entry in plan.listed} == {
        **{f"{name}{suffix}": -1 for name in ("pipe", "zero", "loop")},
        f"locked{suffix}": 1,
        "train/a.png": 1,
    }
    contents.write_index(tmp_path / "index", "data", plan.listed, {}, lambda items, *_: items)
    assert contents.changed_files(tmp_path / "index", "data", plan.listed, lambda items, *_: items) == []
    (folder / "train" / "b.png").write_bytes(b"b")
    assert plan_of("data").manifest_settings != before


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_of_a_huge_table_a_sample_is_read(tmp_path, suffix):
    path = tmp_path / "work" / "data" / f"huge{suffix}"
    with open(path, "wb") as file:
        file.truncate(2**40)
    began = time.process_time()
    first = plan_of("data").manifest_settings
    assert time.process_time() - began < 2
    with open(path, "r+b") as file:
        file.write(b"changed")
    assert plan_of("data").manifest_settings != first
    listed = data_files({"root": "data"})
    contents.write_index(tmp_path / "index", "data", listed, {}, lambda items, *_: items)
    assert time.process_time() - began < 4
