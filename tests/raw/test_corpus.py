"""Bad and odd images, file names and files: each read rightly, or listed with the reason; never a crash or a hang."""

import hashlib
import os
import re
import shutil
import threading
import time
from pathlib import Path

import corpus
import numpy as np
import pytest
from corpus import KINDS
from PIL import Image
from torture import fuzz

from eightfold.config.resolve import resolve
from eightfold.core.files import UserError
from eightfold.inputs import dataset
from eightfold.raw import images, manifest
from eightfold.raw.stores import Store
from eightfold.raw.strangers import MAX_FILE

NAMES = {  # what a file may be called, and a shell or a table would stumble over
    "semicolon": "a; touch run-by-a-shell",
    "dollar": "$(touch run-by-a-shell)",
    "backtick": "`touch run-by-a-shell`",
    "single_quote": "it's",
    "double_quote": 'say "cheese"',
    "line_feed": "two\nlines",
    "leading_dash": "-rf",
    "two_dashes": "--config",
    "space": " a  b ",
    "tab": "a\tb",
    "backslash": "a\\nb",
    "percent": "100%s %(x)s {y} {{z}}",
    "unicode": "Käfer-日本語-\U0001f41e",
    "right_to_left": "\u202egpj.exe",
    "combining": "e\u0301",
    "star": "*?[a-z]",
    "tag": "<script>alert(1)<",
    "formula": "=cmd('calc')!A1",
    "comma": "a,b",
    "255_bytes": "x" * 251,
    "not_a_number": "nan",
    "tilde": "~root",
}
SOUND = {name: expected for name, (_, expected) in KINDS.items() if isinstance(expected, tuple)}


def settings(root: Path, **data) -> dict:
    return resolve({"data": {"source": "folders", "root": str(root), "bad_images": "skip", **data}})["data"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> tuple[Path, manifest.Manifest]:
    """A data folder with every kind of file and of name, and the manifest made of it."""
    root = tmp_path_factory.mktemp("odd")
    for name in ("train/kinds", "train/names", "train/more"):
        (root / name).mkdir(parents=True)
    for name, (make, _) in KINDS.items():
        (root / "train/kinds" / f"{name}.jpg").write_bytes(make())
    for name in NAMES.values():
        (root / "train/names" / f"{name}.png").write_bytes(corpus.PNG)
    more = root / "train/more"
    (more / "plain.png").write_bytes(corpus.PNG)
    (more / "wrong_suffix.gif").write_bytes(corpus.PNG)
    (more / "UPPER.PNG").write_bytes(corpus.PNG)
    (more / "link.png").symlink_to("plain.png")
    os.link(more / "plain.png", more / "hard_link.png")
    (more / "dangling.png").symlink_to("nowhere.png")
    (more / "loop.png").symlink_to("loop.png")
    os.mkfifo(more / "pipe.png")
    (more / "folder.png").mkdir()
    with open(more / "sparse.png", "wb") as file:
        file.truncate(MAX_FILE + 1)
    began = time.monotonic()
    built = manifest.build(settings(root), threads=4)
    assert time.monotonic() - began < 60
    return root, built


def test_there_are_as_many_kinds_as_promised():
    assert len(KINDS) + len(NAMES) + 9 >= 100 and len(KINDS) >= 60


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_read_rightly_or_rejected_for_its_reason(odd, name):
    _, built = odd
    path = f"train/kinds/{name}.jpg"
    reasons = dict(zip(built.rejected["path"], built.rejected["reason"], strict=True))
    content, expected = KINDS[name][0](), KINDS[name][1]
    if isinstance(expected, str):
        assert re.search(expected, reasons[path]) and "\n" not in reasons[path]
        assert path not in set(built.table["path"])
        return
    if path in reasons:  # a bomb in the metadata may cost the image, and nothing else
        assert len(expected) == 3 and re.search(expected[2], reasons[path])
        return
    row = built.table[built.table["path"] == path].iloc[0]
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    shown = np.asarray(images.decode(content)[0])
    assert (row["height"], row["width"]) == shown.shape[:2] == expected[0].shape[:2]
    assert np.abs(shown.astype(int) - expected[0]).max() <= expected[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(odd, name):
    root, built = odd
    assert f"train/names/{NAMES[name]}" in set(built.table["id"])
    assert not list(Path().glob("run-by-a-*")) and not list(root.rglob("run-by-a-*"))


def test_names_survive_the_tables(odd, tmp_path):
    _, built = odd
    manifest.write_manifest(tmp_path, built)
    table, _ = dataset.read_manifest(tmp_path)
    assert table["id"].tolist() == built.table["id"].tolist()
    rejected = dataset.read_text_table(tmp_path / "rejected.csv")
    assert rejected["path"].tolist() == built.rejected["path"].tolist()


def test_links_pipes_and_giants(odd):
    _, built = odd
    reasons = {Path(p).name: r for p, r in zip(built.rejected["path"], built.rejected["reason"], strict=True)}
    read = {Path(path).name for path in built.table["path"] if "/more/" in path}
    assert read == {"plain.png", "wrong_suffix.gif", "UPPER.PNG", "link.png", "hard_link.png"}
    assert "cannot be read" in reasons["dangling.png"] and "cannot be read" in reasons["loop.png"]
    assert "no plain file" in reasons["pipe.png"] and "bytes, more than" in reasons["sparse.png"]


LITTER = ["@eaDir", "$RECYCLE.BIN", ".ipynb_checkpoints", "__MACOSX", "#recycle", "System Volume Information"]


@pytest.mark.parametrize("zipped", [False, True])
def test_what_systems_leave_behind_is_neither_a_class_nor_a_row(tmp_path, zipped):
    inside = {
        f"{kind}/{n}.png": corpus.saved(np.full((9, 9, 3), 9 * int(n), np.uint8), "PNG") for kind in "ab" for n in "12"
    }
    inside |= {f"{folder}{name}/x.png": corpus.PNG for folder in ("", "a/") for name in LITTER}
    inside |= {f"{folder}{name}": b"junk" for folder in ("", "b/") for name in ("._1.png", "Thumbs.db", "desktop.ini")}
    for name, content in inside.items():
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if zipped:
        shutil.make_archive(str(tmp_path / "train"), "zip", tmp_path / "train")
        shutil.rmtree(tmp_path / "train")
    built = manifest.build(settings(tmp_path, train="train.zip" if zipped else "train", bad_images="fail"))
    assert built.info["classes"] == ["a", "b"] and built.rejected.empty
    assert built.table["path"].tolist() == [f"train{'.zip' * zipped}/{kind}/{n}.png" for kind in "ab" for n in "12"]


def test_a_pickle_is_never_opened(odd):
    assert not list(Path().glob("run-by-a-*"))


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../outside.png"])
def test_a_link_out_of_the_data_is_refused(tmp_path, target):
    folder = tmp_path / "data" / "train" / "a"
    folder.mkdir(parents=True)
    (tmp_path / "outside.png").write_bytes(corpus.PNG)
    (folder / "x.png").symlink_to(target)
    with pytest.raises(UserError, match=r"lead out of the data folder(?s:.*)train/a/x\.png"):
        manifest.build(settings(tmp_path / "data"))


def test_what_may_not_be_read_is_listed(tmp_path, monkeypatch):
    """By a stand-in where the tests run as root, whom no permission stops."""
    folder = tmp_path / "train" / "a"
    (tmp_path / "train" / "b").mkdir(parents=True)
    folder.mkdir()
    for path in (folder / "locked.png", folder / "open.png", tmp_path / "train" / "b" / "open.png"):
        path.write_bytes(corpus.PNG)
    (folder / "locked.png").chmod(0)
    if os.getuid() == 0:
        whole = Store.read

        def read(self, path):
            if path.endswith("locked.png"):
                raise PermissionError(13, "Permission denied", path)
            return whole(self, path)

        monkeypatch.setattr(Store, "read", read)
    rejected = manifest.build(settings(tmp_path)).rejected
    assert rejected[["path", "reason"]].to_numpy().tolist() == [
        ["train/a/locked.png", "cannot be read (Permission denied)"]
    ]


def test_a_file_that_changes_while_it_is_read_is_whole_or_rejected(tmp_path):
    """What is hashed is what is decoded: the bytes are read once."""
    path = tmp_path / "x.png"
    first, second = (corpus.saved(np.full((40, 40, 3), value, np.uint8), "PNG") for value in (10, 200))
    path.write_bytes(first)
    store, stop = Store(tmp_path, {"id": "id", "bands": None, "range": None}), threading.Event()

    def change():
        while not stop.is_set():
            for content in (second, first):
                path.write_bytes(content)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        looks = [manifest.look_at(store, "x.png") for _ in range(300)]
    finally:
        stop.set()
        writer.join()
    known = {hashlib.sha256(content).hexdigest() for content in (first, second)}
    assert all((look.sha256 in known) if not look.problem else look.sha256 not in known for look in looks)


# ---- bounds


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    at_once, most, guard = [0], [0], threading.Lock()
    whole = images._to_rgb

    def slow(image, span):
        with guard:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.05)
        with guard:
            at_once[0] -= 1
        return whole(image, span)

    monkeypatch.setattr(images, "_to_rgb", slow)
    monkeypatch.setattr(images, "LARGE", 100)
    workers = [threading.Thread(target=images.decode, args=(corpus.PNG,)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1]


def test_the_scans_of_honest_files_are_few():
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    assert images.decode(corpus.saved(image, "JPEG", progressive=True))
    with pytest.raises(images.BadImage, match=r"5\d\d scans"):
        images.decode(corpus.scan_bomb(500))


def test_damaged_files_are_an_image_or_a_reason():
    """The short version of `python tests/torture/fuzz.py 10000`."""
    seen = fuzz.run(400)
    assert seen["failures"] == [] and seen["read"] + seen["rejected"] == seen["files"] == 400
    assert seen["read"] > 20 and seen["rejected"] > 100
    assert seen["slowest_s"] < 30 and seen["peak_bytes"] < fuzz.MEMORY


def test_a_fuzzed_file_is_the_same_file_again():
    sources = corpus.sound()
    assert [fuzz.mutated(n, sources) for n in range(50)] == [fuzz.mutated(n, sources) for n in range(50)]
