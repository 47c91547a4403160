"""The index of the data root's files: what it sees, and what it reads to see it."""

import os
import time
import zipfile
from pathlib import Path

import pytest

from eightfold.core import contents, listing

OLD_NS = 1_700_000_000_000_000_000


def noted(items, total, label):
    return items


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten files, one of them in a folder, all of them old."""
    root = tmp_path / "data"
    (root / "inner").mkdir(parents=True)
    for number in range(10):
        path = root / ("inner" if number == 9 else ".") / f"{number}.npy"
        path.write_bytes(bytes([number]) * 100)
        os.utime(path, ns=(OLD_NS, OLD_NS))
    return root


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files that are read, in the order of their reading."""
    found = []

    def digest(path, algorithm):
        found.append(Path(path).name)
        return listing.file_digest(path, algorithm)

    monkeypatch.setattr(contents, "file_digest", digest)
    return found


def indexed(root: Path) -> Path:
    index = root.parent / "index" / "contents"
    contents.write_index(index, str(root), sorted(listing.entries_below(root)), {}, noted)
    return index


def changed(index: Path, root: Path) -> list[str]:
    return contents.changed_files(index, str(root), sorted(listing.entries_below(root)), noted)


def test_each_file_is_read_once_and_none_where_no_time_has_moved(root, read):
    index = indexed(root)
    assert sorted(read) == sorted(path.name for path in root.rglob("*.npy"))
    read.clear()
    assert changed(index, root) == [] and read == []


def test_another_content_of_the_same_size_is_seen_until_the_index_is_written_anew(root, read):
    index = indexed(root)
    (root / "3.npy").write_bytes(b"x" * 100)
    (root / "inner" / "9.npy").write_bytes(b"y" * 100)
    read.clear()
    for _ in range(2):
        assert changed(index, root) == ["3.npy", "inner/9.npy"]
    assert set(read) == {"3.npy", "9.npy"}
    assert changed(indexed(root), root) == []


def test_a_touched_file_is_read_once_and_is_the_same(root, read):
    index = indexed(root)
    for path in root.rglob("*.npy"):
        os.utime(path, ns=(OLD_NS + 5, OLD_NS + 5))
    read.clear()
    assert changed(index, root) == [] and len(read) == 10
    read.clear()
    assert changed(index, root) == [] and read == []


def test_a_file_written_within_a_tick_of_the_clock_is_read_again(root, read):
    path = root / "3.npy"
    path.write_bytes(b"a" * 100)
    index, times = indexed(root), path.stat()
    path.write_bytes(b"b" * 100)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as within one tick
    assert changed(index, root) == ["3.npy"]


def test_what_was_read_before_is_not_read_for_the_index(root, read):
    entries = sorted(listing.entries_below(root))
    known = {name: listing.file_digest(root / name, "sha256") for name, *_ in entries[:7]}
    index = root.parent / "contents"
    contents.write_index(index, str(root), entries, known, noted)
    assert len(read) == 3 and changed(index, root) == []


def test_one_byte_of_a_table_in_a_stored_archive_is_seen(root):
    for answer in ("cat", "dog"):
        with zipfile.ZipFile(root / "labels.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("labels.csv"), f"id,label\n1,{answer}\n")
        if answer == "cat":
            os.utime(root / "labels.zip", ns=(OLD_NS, OLD_NS))
            index, size = indexed(root), (root / "labels.zip").stat().st_size
    assert (root / "labels.zip").stat().st_size == size and changed(index, root) == ["labels.zip"]


def test_files_that_came_or_went_or_lead_nowhere_are_no_matter_of_the_index(root):
    (root / "nowhere").symlink_to("gone")
    index = indexed(root)
    (root / "3.npy").unlink()
    (root / "new.npy").write_bytes(b"new")
    assert changed(index, root) == []


@pytest.mark.parametrize("damage", [None, b"", b"no json", b"stamp\n{"])
def test_without_a_whole_index_nothing_is_said_to_have_changed(root, damage):
    index = indexed(root)
    if damage is None:
        index.unlink()
    else:
        index.write_bytes(damage)
    (root / "3.npy").write_bytes(b"x" * 100)
    assert changed(index, root) == []


def test_names_that_are_not_utf_8_are_kept(root):
    name = os.fsdecode(b"\xff.npy")
    try:
        (root / name).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system knows no such names")
    os.utime(root / name, ns=(OLD_NS, OLD_NS))
    index = indexed(root)
    (root / name).write_bytes(b"y")
    assert changed(index, root) == [name]


def test_a_hundred_thousand_files_cost_the_index_a_fraction_of_their_listing(tmp_path):
    """Ratio, not seconds: the stamp is compared and no file's entry is looked up."""
    entries = [listing.Entry(f"train/{number:06d}.jpg", 50_000, OLD_NS + number) for number in range(100_000)]
    index = tmp_path / "contents"
    contents.write_index(index, str(tmp_path), entries, {entry.name: "0" * 64 for entry in entries}, noted)
    started = time.process_time()
    listing.listing_digest(tmp_path, entries)
    listed = time.process_time() - started
    started = time.process_time()
    assert contents.changed_files(index, str(tmp_path), entries, noted) == []
    assert time.process_time() - started < 3 * listed
