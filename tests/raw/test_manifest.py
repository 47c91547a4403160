"""The manifest: which rows there are, what they are called, what is refused, and what an error message tells."""

import csv
import io
import logging
import os
import shutil
import time
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from eightfold.config.resolve import resolve
from eightfold.core.files import UserError
from eightfold.core.listing import listing_digest
from eightfold.inputs import dataset
from eightfold.raw import images, manifest
from eightfold.raw.candidates import natural_key

DEFAULTS = resolve({})["data"] | {"source": "csv"}


def write_image(path, size=(6, 4), color=0, **options):
    """Write a small image; equal arguments, equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (color % 256, 0, 0)).save(path, **options)


def table(path, rows, head=("id", "label")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture(autouse=True)
def log_is_seen(monkeypatch):
    """A job that ran in this process before has turned the logger away from pytest's."""
    monkeypatch.setattr(manifest.log, "propagate", True)
    monkeypatch.setattr(manifest.log, "level", logging.INFO)


@pytest.fixture
def kaggle(tmp_path):
    """Four labelled images, two test images and a sample, as downloaded; returns its config."""
    for number, name in enumerate(["a1", "a2", "b1", "b2"]):
        write_image(tmp_path / "train" / f"{name}.jpg", color=number)
    for name in ("10", "9"):
        write_image(tmp_path / "test" / f"{name}.jpg")
    table(tmp_path / "labels.csv", [("b1", "bee"), ("a1", "ant"), ("b2", "bee"), ("a2", "ant")])
    table(tmp_path / "sample.csv", [("10", 0.5, 0.5), ("9", 0.5, 0.5)], ("id", "ant", "bee"))
    return DEFAULTS | {"root": str(tmp_path), "suffix": ".jpg", "test": "test"}


@pytest.fixture
def folders(tmp_path):
    """train and valid of two classes; returns its config."""
    for split in ("train", "valid"):
        for name in ("ants", "bees"):
            for number in range(2):
                write_image(tmp_path / split / name / f"{number}.png", color=number)
    return DEFAULTS | {"root": str(tmp_path), "source": "folders"}


def refused(data, *parts):
    """Building raises a UserError that says all of ``parts``; returns its message."""
    with pytest.raises(UserError) as caught:
        manifest.build(data)
    for part in parts:
        assert str(part) in str(caught.value)
    return str(caught.value)


def ids(built, split):
    return built.table.loc[built.table["split"] == split, "id"].tolist()


# ---- what a good job gives


def test_rows_keep_the_order_of_the_table_then_the_test_images_naturally(kaggle, tmp_path):
    built = manifest.build(kaggle, threads=2)
    assert built.table.columns.tolist() == dataset.COLUMNS
    assert ids(built, "train") == ["b1", "a1", "b2", "a2"] and ids(built, "test") == ["9", "10"]
    assert built.table["labels"].tolist() == ["bee", "ant", "bee", "ant", "", ""]
    first = built.table.iloc[0]
    assert (first["path"], first["width"], first["height"], first["mode"]) == ("train/b1.jpg", 6, 4, "RGB")
    assert first["bytes"] == (tmp_path / "train/b1.jpg").stat().st_size and len(first["sha256"]) == 64
    assert set(built.table["status"]) == {"ok"} and built.rejected.empty
    expected = {"task": "single", "classes": ["ant", "bee"], "separator": None, "root": str(tmp_path)}
    assert built.info.items() >= expected.items() and built.info["sample_submission"] is None
    assert built.info["counts"] == {"train": 4, "valid": 0, "test": 2, "rejected": 0, "unreadable": 0}
    assert dataset.targets(built.table, built.info).tolist() == [1, 0, 1, 0, -1, -1]
    assert dataset.targets(built.table, built.info).dtype == np.int64


def test_the_sample_gives_ids_and_order(kaggle, tmp_path):
    built = manifest.build(kaggle | {"sample_submission": "sample.csv"})
    assert ids(built, "test") == ["10", "9"]
    assert built.info["sample_submission"] == str(tmp_path / "sample.csv")
    table(tmp_path / "sample.csv", [("9.jpg", 1), ("10.jpg", 1)], ("image", "ant"))
    built = manifest.build(kaggle | {"sample_submission": "sample.csv"})
    assert ids(built, "test") == ["9.jpg", "10.jpg"]
    assert built.table["path"].tolist()[-2:] == ["test/9.jpg", "test/10.jpg"]


def test_test_images_named_by_a_table_may_share_the_train_folder(kaggle, tmp_path):
    for name in ("t2", "t1"):
        write_image(tmp_path / "train" / f"{name}.jpg")
    table(tmp_path / "test.csv", [("x", "t2"), ("x", "t1")], ("other", "id"))
    built = manifest.build(kaggle | {"test": "test.csv"})
    assert ids(built, "test") == ["t2", "t1"] and ids(built, "train") == ["b1", "a1", "b2", "a2"]
    table(tmp_path / "sample.csv", [("t1", 1), ("t2", 1)])
    for test in (None, "test.csv"):
        assert ids(manifest.build(kaggle | {"test": test, "sample_submission": "sample.csv"}), "test") == ["t1", "t2"]
    table(tmp_path / "test.csv", [("9",), ("10",)], ("id",))
    for name in ("t1", "t2"):
        (tmp_path / "train" / f"{name}.jpg").unlink()
    built = manifest.build(kaggle | {"test": "test.csv", "test_images": "test"})
    assert built.table["path"].tolist()[-2:] == ["test/9.jpg", "test/10.jpg"]


def test_folders_give_classes_and_splits(folders, tmp_path):
    write_image(tmp_path / "train" / "ants" / "deep" / "er.v2.png")
    write_image(tmp_path / "test" / "a" / "1.png")
    built = manifest.build(folders)
    assert ids(built, "train") == [
        *("train/ants/0", "train/ants/1", "train/ants/deep/er.v2", "train/bees/0", "train/bees/1")
    ]
    assert ids(built, "valid") == ["valid/ants/0", "valid/ants/1", "valid/bees/0", "valid/bees/1"]
    assert ids(built, "test") == ["1"]
    assert built.info["classes"] == ["ants", "bees"]
    write_image(tmp_path / "test" / "b" / "1.png")  # two stems collide
    assert ids(manifest.build(folders), "test") == ["a/1", "b/1"]


def test_class_names_with_spaces_are_one_class_without_separator(kaggle, tmp_path):
    table(tmp_path / "labels.csv", [("a1", "pine marten"), ("a2", " oak "), ("b1", "oak"), ("b2", "pine marten")])
    built = manifest.build(kaggle)
    assert built.info["classes"] == ["oak", "pine marten"] and built.info["task"] == "single"


@pytest.mark.parametrize("separator", [" ", "|"])
def test_several_labels_are_n_hot(kaggle, tmp_path, separator):
    cells = [["sea", "sky"], ["sky"], ["sky", "sand", "sky"], ["sea"]]
    rows = [(name, separator.join(cell)) for name, cell in zip(["a1", "a2", "b1", "b2"], cells, strict=True)]
    table(tmp_path / "labels.csv", rows)
    built = manifest.build(kaggle | {"separator": separator})
    assert built.info["task"] == "multi" and built.info["classes"] == ["sand", "sea", "sky"]
    hot = dataset.targets(built.table, built.info)
    assert hot.dtype == np.float32
    assert hot.tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert built.table["labels"][2] == separator.join(["sky", "sand"])


def test_written_and_read_back_it_is_the_same(kaggle, tmp_path):
    built = manifest.build(kaggle)
    manifest.write_manifest(tmp_path / "out", built)
    read, info = dataset.read_manifest(tmp_path / "out")
    pd.testing.assert_frame_equal(read, built.table, check_dtype=False)
    assert info == built.info and read.index.tolist() == list(range(6))
    assert all(read[name].dtype == np.int64 for name in dataset.NUMBERS)
    text = (tmp_path / "out/manifest.csv").read_text()
    (tmp_path / "out/manifest.csv").write_text(text.replace("b1,", "b7,", 1))
    with pytest.raises(UserError, match="not the table"):
        dataset.read_manifest(tmp_path / "out")


def test_equal_data_elsewhere_have_the_same_digest_and_changed_data_another(kaggle, tmp_path):
    first = manifest.build(kaggle)
    copy = tmp_path.with_name("copy")
    shutil.copytree(tmp_path, copy)
    assert manifest.build(kaggle | {"root": str(copy)}, threads=3).info["digest"] == first.info["digest"]
    write_image(copy / "train" / "a1.jpg", color=200)
    changed = manifest.build(kaggle | {"root": str(copy)})
    assert changed.info["digest"] != first.info["digest"]


def test_size_is_upright(kaggle, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "train" / "b1.jpg", exif=exif)
    assert manifest.build(kaggle).table.loc[0, ["width", "height"]].tolist() == [4, 6]


# ---- ids are text

ODD = [
    "007",
    "00012345678901234567",
    "1e5",
    "nan",
    "NA",
    "True",
    "a.b.c",
    "ünï-日本",
    'q"uo"te',
    "com,ma",
    " lead",
    "-1",
]


def test_odd_ids_survive(kaggle, tmp_path):
    for name in ODD:
        write_image(tmp_path / "train" / f"{name}.jpg")
        write_image(tmp_path / "test" / f"{name}.jpg")
    rows = [(name, "ant" if number % 2 else "null") for number, name in enumerate(ODD)]
    table(tmp_path / "labels.csv", [*rows, ("a1", "ant"), ("a2", "ant"), ("b1", "null"), ("b2", "null")])
    manifest.write_manifest(tmp_path / "out", manifest.build(kaggle))
    read, info = dataset.read_manifest(tmp_path / "out")
    assert read.loc[read["split"] == "train", "id"].tolist()[: len(ODD)] == ODD
    assert set(read.loc[read["split"] == "test", "id"]) == {*ODD, "9", "10"}
    assert info["classes"] == ["ant", "null"]


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES.filter(lambda name: name[0] != "."), min_size=2, max_size=5, unique=True))
def test_any_ids_survive(names, tmp_path):
    shutil.rmtree(tmp_path)
    for name in names:
        write_image(tmp_path / "train" / f"{name}.png")
    table(tmp_path / "labels.csv", [(name, f"class {number % 2}") for number, name in enumerate(names)])
    manifest.write_manifest(tmp_path / "out", manifest.build(DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}))
    assert dataset.read_manifest(tmp_path / "out")[0]["id"].tolist() == names


def test_sub_folders_suffixes_in_ids_a_byte_order_mark_and_other_columns(kaggle, tmp_path):
    write_image(tmp_path / "train" / "ab" / "abc.png")
    text = "breed,extra,image\r\nant,,a1.jpg\r\n\r\nant,,a2.jpg\r\nbee,1,b1.jpg\r\nbee,,b2.jpg\r\nbee,,ab/abc.png\r\n"
    (tmp_path / "labels.csv").write_text("\ufeff" + text, newline="")
    built = manifest.build(kaggle | {"suffix": "", "id": "image", "label": "breed"})
    assert built.table["path"].tolist()[4] == "train/ab/abc.png" and ids(built, "train")[0] == "a1.jpg"


def test_images_at_the_root(kaggle, tmp_path):
    for path in (tmp_path / "train").iterdir():
        path.rename(tmp_path / path.name)
    assert manifest.build(kaggle | {"train": "."}).table["path"][0] == "b1.jpg"


def test_hidden_files_and_litter_are_no_images(folders, tmp_path, caplog):
    before = manifest.build(folders).info["digest"]
    for name in (".DS_Store", ".hidden.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "train" / "ants" / name).write_bytes(b"x")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "__MACOSX").mkdir()
    with caplog.at_level(logging.WARNING, "eightfold"):
        built = manifest.build(folders)
    assert built.info["digest"] == before and built.rejected.empty and not caplog.records


def test_files_that_are_not_taken_for_images_are_counted_by_suffix_and_listed(folders, tmp_path, caplog):
    """Half of a phone's folder vanished, with a line of log."""
    before = manifest.build(folders)
    (tmp_path / "test").mkdir()
    write_image(tmp_path / "test" / "t.png")
    for name in ("train/ants/IMG_1", "train/ants/IMG_2", "train/bees/x.mov", "train/bees/labels.xml", "test/u.xyz"):
        (tmp_path / name).write_bytes(b"x")
    built = manifest.build(folders)
    assert built.info["classes"] == before.info["classes"] and ids(built, "train") == ids(before, "train")
    assert built.rejected[["path", "split"]].to_numpy().tolist() == [
        ["test/u.xyz", "test"],
        ["train/ants/IMG_1", "train"],
        ["train/ants/IMG_2", "train"],
        ["train/bees/x.mov", "train"],
    ]
    assert built.rejected["reason"].str.contains("not taken for an image: (?:without a|of) suffix").all()
    assert "3 files are not taken for images: 2 without a suffix, 1 of suffix .mov" in caplog.text
    assert f"{tmp_path / 'test'}: 1 files are not taken for images: 1 of suffix .xyz" in caplog.text
    assert built.info["counts"]["rejected"] == 0  # manifest.json, by which all else is made again, says nothing of them


def test_what_a_table_names_is_taken_whatever_its_suffix(kaggle, tmp_path):
    for name in ("a1", "a2", "b1", "b2"):
        (tmp_path / "train" / f"{name}.jpg").rename(tmp_path / "train" / f"{name}.xyz")
    (tmp_path / "train" / "more.xyz").write_bytes(b"x")
    (tmp_path / "train" / "other.abc").write_bytes(b"x")
    built = manifest.build(kaggle | {"suffix": ".xyz", "bad_images": "skip"})
    assert set(built.table["path"]) == {f"train/{name}.xyz" for name in ("a1", "a2", "b1", "b2")} | {
        "test/9.jpg",
        "test/10.jpg",
    }
    assert built.rejected["path"].tolist() == ["train/more.xyz", "train/other.abc"]


def test_images_of_a_phone_are_rows_and_say_what_they_need(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(images.plugins, "register", lambda: None)
    heic, jxl = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", b"\xff\n\x03\x07\0\x13\x88\x02\0" + bytes(9)
    (tmp_path / "train" / "ants" / "IMG_1.HEIC").write_bytes(heic)
    (tmp_path / "train" / "ants" / "x.jxl").write_bytes(jxl)
    message = refused(folders, "2 images cannot be used", "data.bad_images: skip")
    assert "IMG_1.HEIC: a HEIC image, which needs the package pillow-heif" in message
    assert "x.jxl: a JPEG XL image, which needs a package: .venv/bin/python -m pip install pillow-jxl-plugin" in message


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
PAGES = [
    b"<!DOCTYPE html>\n<title>404</title>",
    b"\xef\xbb\xbf<html>",
    b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code>",
]


@pytest.mark.parametrize("bad_images", ["fail", "skip"])
@pytest.mark.parametrize(
    ("content", "word"), [(POINTER, "git lfs pull"), *((page, "saved web page") for page in PAGES)]
)
def test_test_images_of_which_none_can_be_read_are_refused(kaggle, tmp_path, content, word, bad_images):
    (tmp_path / "test" / "9.jpg").write_bytes(content)
    built = manifest.build(kaggle | {"bad_images": bad_images})  # one of two is the competition's affair
    assert built.table["status"].tolist() == ["ok"] * 4 + ["unreadable", "ok"] and word in built.rejected["reason"][0]
    (tmp_path / "test" / "10.jpg").write_bytes(content)
    refused(kaggle | {"bad_images": bad_images}, "none of the 2 images to predict can be read", "test/9.jpg", word)


def test_palette_gif_is_an_image(folders, tmp_path):
    Image.new("P", (9, 9)).save(tmp_path / "train" / "ants" / "imageNotFound.gif")
    row = manifest.build(folders).table.set_index("id").loc["train/ants/imageNotFound"]
    assert row["mode"] == "P" and row["status"] == "ok"


# ---- bad images


@pytest.fixture
def damaged(kaggle, tmp_path):
    """Each kind of bad row; without them two ants and two bees are left."""
    (tmp_path / "train" / "text.jpg").write_text("<html>")
    (tmp_path / "train" / "empty.jpg").write_bytes(b"")
    whole = (tmp_path / "train" / "a1.jpg").read_bytes()
    (tmp_path / "train" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    write_image(tmp_path / "train" / "unnamed.jpg")
    write_image(tmp_path / "train" / "blank.jpg")
    bad = [("text", "bee"), ("empty", "bee"), ("cut", "bee"), ("gone", "bee"), ("blank", " ")]
    table(tmp_path / "labels.csv", [("b1", "bee"), *bad, ("a1", "ant"), ("b2", "bee"), ("a2", "ant")])
    return kaggle


REASONS = {
    "text": "not an image",
    "empty": "an empty file",
    "cut": "runcated",
    "gone": "labels.csv line 6: no such file",
    "blank": "labels.csv line 7: no label",
    "unnamed": "no label: labels.csv does not name it",
}


def test_bad_images_are_all_named_in_one_error(damaged):
    message = refused(damaged, "6 images cannot be used", "bad_images: skip")
    for name, reason in REASONS.items():
        assert any(f"train/{name}.jpg" in line and reason in line for line in message.splitlines())


def test_bad_images_are_left_out_and_listed(damaged, caplog):
    built = manifest.build(damaged | {"bad_images": "skip"}, threads=2)
    assert ids(built, "train") == ["b1", "a1", "b2", "a2"]
    rejected = built.rejected.set_index("id")
    assert set(rejected.index) == set(REASONS) and built.info["counts"]["rejected"] == 6
    for name, reason in REASONS.items():
        assert reason in rejected.loc[name, "reason"] and rejected.loc[name, "path"] == f"train/{name}.jpg"
    assert "6 images are left out" in caplog.text


def test_long_lists_are_cut(kaggle, tmp_path):
    for number in range(25):
        (tmp_path / "train" / f"x{number:02d}.jpg").write_bytes(b"x")
    message = refused(kaggle, "25 images", "train/x09.jpg", "... and 15 more")
    assert "train/x10.jpg" not in message


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_unreadable_test_image_keeps_its_row(kaggle, tmp_path, policy, caplog):
    (tmp_path / "test" / "9.jpg").write_bytes(b"junk")
    built = manifest.build(kaggle | {"bad_images": policy})
    row = built.table.set_index("id").loc["9"]
    assert (row["status"], row["width"], row["height"], row["mode"]) == ("unreadable", 0, 0, "")
    assert built.info["counts"] == {"train": 4, "valid": 0, "test": 2, "rejected": 0, "unreadable": 1}
    assert built.rejected["path"].tolist() == ["test/9.jpg"]
    assert "test/9.jpg: not an image" in caplog.text


def test_missing_test_image_is_an_error_or_an_unreadable_row(kaggle, tmp_path):
    table(tmp_path / "test.csv", [("9",), ("8",)], ("id",))
    data = kaggle | {"test": "test.csv", "test_images": "test"}
    refused(data, "test/8.jpg", "line 3: no such file")
    assert manifest.build(data | {"bad_images": "skip"}).table["status"].tolist()[-2:] == ["ok", "unreadable"]


def test_decompression_bomb_is_refused_by_name(kaggle, tmp_path):
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "train" / "b1.jpg").write_bytes(content)
    message = refused(kaggle, "1 images", "train/b1.jpg", "decompression bomb")
    assert message.count("\n  ") == 1


def test_wrong_suffix_is_told(kaggle):
    refused(kaggle | {"suffix": ""}, "there is train/b1.jpg: is data.suffix right?")


def test_class_that_loses_all_its_images_is_told(kaggle, tmp_path, caplog):
    table(tmp_path / "labels.csv", [("a1", "ant"), ("a2", "ant"), ("b1", "bee"), ("b2", "wasp"), ("gone", "fly")])
    built = manifest.build(kaggle | {"bad_images": "skip"})
    assert built.info["classes"] == ["ant", "bee", "wasp"] and "no usable image" in caplog.text


# ---- refusals


def test_missing_files_and_folders_are_named(kaggle, folders, tmp_path):
    refused(kaggle | {"root": str(tmp_path / "no")}, tmp_path / "no", "data.root")
    refused(kaggle | {"labels": "train.csv"}, tmp_path / "train.csv", "data.labels")
    refused(kaggle | {"train": "trian"}, tmp_path / "trian", "data.train", "did you mean 'train'?")
    refused(kaggle | {"test": "tset"}, "data.test", "did you mean 'test'?")
    refused(kaggle | {"test": "t.csv", "test_images": "test"}, tmp_path / "t.csv", "data.test")
    refused(kaggle | {"sample_submission": "s.csv"}, tmp_path / "s.csv", "data.sample_submission")
    refused(kaggle | {"valid": "valid"}, "data.valid")
    refused(folders | {"valid": "vald"}, "data.valid", "did you mean 'valid'?")


def test_missing_and_doubled_columns_are_named(kaggle, tmp_path):
    refused(kaggle | {"label": "lable"}, "labels.csv", "'lable'", "data.label", "did you mean 'label'?")
    refused(kaggle | {"id": "breed"}, "data.id", "columns there: 'id', 'label'")
    table(tmp_path / "labels.csv", [("a1", "ant", "x")], ("id", "label", "id"))
    refused(kaggle, "2 columns are called 'id'")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["without rows", "data.labels"]),
        (b"id,label\n", ["without rows"]),
        (b"id,label\na1,ant\na2\n", ["2 columns", "line 3: 1"]),
        (b"id,label\na1,ant,x\n", ["line 2: 3"]),
        (b'id,label\na1,"ant\n', ["line 2", "not CSV"]),
        (b"id,label\na1,\xff\n", ["not UTF-8"]),
        (b"id,label\n,ant\n", ["line 2", "id is empty"]),
        (b"id,label\n../labels,ant\n", ["line 2", "'../labels'", "out of the data folder"]),
        (b"id,label\nx/../../b,ant\n", ["out of the data folder"]),
        (b"id,label\n/etc/passwd,ant\n", ["'/etc/passwd'", "out of the data folder"]),
        (b"id,label\na1,ant\nb1,bee\na1,bee\n", ["'a1': line 2 and line 4"]),
        (b"id,label\na1,ant\nb1,bee\n./a1,bee\n", ["'train/a1.jpg': line 2 and line 4"]),
        (b'id,label\na1,ant\nb1,"be\re"\n', ["carriage return"]),
        (b"id,label\na1,ant\na2,ant\nb1,ant\nb2,ant\n", ["one class 'ant'"]),
    ],
)
def test_broken_tables_are_refused_with_their_line(kaggle, tmp_path, content, parts):
    (tmp_path / "labels.csv").write_bytes(content)
    refused(kaggle, tmp_path / "labels.csv" if "class" not in parts[0] and "return" not in parts[0] else "", *parts)


def test_no_usable_image_is_an_error(kaggle, tmp_path):
    for path in (tmp_path / "train").iterdir():
        path.write_bytes(b"x")
    refused(kaggle | {"bad_images": "skip"}, "no usable labelled image", "train/a1.jpg: not an image")


def test_empty_folders_are_refused(folders, tmp_path):
    (tmp_path / "train" / "wasps").mkdir()
    refused(folders, "train/wasps: a class folder without an image")
    assert manifest.build(folders | {"bad_images": "skip"}).rejected["path"].tolist() == ["train/wasps"]
    (tmp_path / "train" / "wasps").rmdir()
    (tmp_path / "test").mkdir()
    refused(folders, tmp_path / "test", "holds no image", "data.test")
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train").mkdir()
    refused(folders, "holds no image")


def test_folder_images_without_a_class_and_classes_unknown_to_train(folders, tmp_path):
    write_image(tmp_path / "train" / "stray.png")
    refused(folders, "train/stray.png: no label")
    (tmp_path / "train" / "stray.png").unlink()
    write_image(tmp_path / "valid" / "wasps" / "1.png")
    refused(folders, "1 classes are in valid but not in train", "wasps")


def test_same_id_after_the_suffix_is_stripped(folders, tmp_path):
    write_image(tmp_path / "train" / "ants" / "0.jpg")
    refused(folders, "'train/ants/0': train/ants/0.jpg and train/ants/0.png")


def test_stale_sample_names_both_sides(kaggle, tmp_path):
    data = kaggle | {"sample_submission": "sample.csv"}
    table(tmp_path / "sample.csv", [("10", 1), ("11", 1)])
    refused(data, "1 only in " + str(tmp_path / "sample.csv"), "'11'", "1 only in " + str(tmp_path / "test"), "'9.jpg'")
    table(tmp_path / "sample.csv", [("10", 1), ("9", 1), ("10", 1)])
    refused(data, "'10': line 2 and line 4")
    table(tmp_path / "test.csv", [("9",), ("10",)], ("id",))
    table(tmp_path / "sample.csv", [("10", 1)])
    refused(
        data | {"test": "test.csv", "test_images": "test"}, "1 only in " + str(tmp_path / "test.csv"), "'9' (line 2)"
    )


@pytest.mark.parametrize("name", [" 9", "9 ", "9.JPEG", "test/9.jpg"])
def test_an_id_of_the_sample_that_is_nearly_a_test_image_is_shown_beside_it(kaggle, tmp_path, name):
    table(tmp_path / "sample.csv", [("10", 1), (name, 1)])
    data = kaggle | {"sample_submission": "sample.csv"}
    refused(data, f"{name!r} and '9.jpg' differ only in spaces, case, suffix or folder", f"{name!r} (line 3)")


def test_an_id_with_spaces_at_its_ends_is_named_where_the_sample_is_the_list(kaggle, tmp_path):
    table(tmp_path / "sample.csv", [("10", 1), (" 9", 1)])
    refused(
        kaggle | {"sample_submission": "sample.csv", "test": None, "test_images": "test"}, "line 3", "' 9' has spaces"
    )


def test_link_out_of_the_root_is_refused_and_link_within_is_not(kaggle, tmp_path):
    os.symlink("a1.jpg", tmp_path / "train" / "within.jpg")
    rows = [("b1", "bee"), ("a1", "ant"), ("b2", "bee"), ("a2", "ant"), ("within", "ant")]
    table(tmp_path / "labels.csv", rows)
    assert ids(manifest.build(kaggle), "train")[-1] == "within"
    outside = tmp_path.with_name("outside")
    write_image(outside / "secret.jpg")
    os.symlink(outside / "secret.jpg", tmp_path / "test" / "secret.jpg")
    refused(kaggle | {"bad_images": "skip"}, "lead out of the data folder", "test/secret.jpg")


def test_root_may_be_a_link_itself(kaggle, tmp_path):
    link = tmp_path.with_name("link")
    os.symlink(tmp_path, link)
    built = manifest.build(kaggle | {"root": str(link)})
    assert built.info["digest"] == manifest.build(kaggle).info["digest"]


def test_names_that_are_not_utf8_are_refused(folders, tmp_path):
    with open(os.fsencode(tmp_path) + b"/train/ants/\xff.png", "wb") as file:
        file.write((tmp_path / "train/ants/0.png").read_bytes())
    refused(folders, "not UTF-8", "\\udcff.png")


# ---- helpers


def test_natural_order():
    names = ["10.png", "9.png", "a10b2", "a9b11", "01.png", "1.png", "a10b10", ""]
    assert sorted(names, key=natural_key) == ["", "01.png", "1.png", "9.png", "10.png", "a9b11", "a10b2", "a10b10"]


def test_listing_digest_sees_names_sizes_and_tables_but_no_times(kaggle, tmp_path):
    first = listing_digest(tmp_path)
    os.utime(tmp_path / "train/a1.jpg", (1, 1))
    (tmp_path / ".cache").write_text("hidden")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_text("hidden")
    assert listing_digest(tmp_path) == listing_digest(str(tmp_path) + "/") == first
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("ant", "bee"))  # of the same size
    assert (other := listing_digest(tmp_path)) != first
    (tmp_path / "train/a1.jpg").rename(tmp_path / "train/a3.jpg")
    assert listing_digest(tmp_path) not in (first, other)


def test_listing_names_what_it_cannot_read(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/no: no such folder"):
        listing_digest(tmp_path / "no")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be read as a folder"):
        listing_digest(tmp_path / "file")
    os.symlink("nowhere", tmp_path / "dangling.png")
    listing_digest(tmp_path)
    (tmp_path / "a").mkdir()
    os.symlink("..", tmp_path / "a" / "loop")
    with pytest.raises(UserError, match="leads back into itself"):
        listing_digest(tmp_path)


def test_listing_is_fast(tmp_path):
    for folder in range(4):
        (tmp_path / str(folder)).mkdir()
        for number in range(500):
            (tmp_path / str(folder) / str(number)).touch()
    started = time.perf_counter()
    listing_digest(tmp_path)
    assert time.perf_counter() - started < 0.5  # 2,000 files; 20 ms on an idle core


def test_group_and_fold_columns_ride_along_as_text(kaggle, tmp_path):
    rows = [("b1", "bee", "007", "1"), ("a1", "ant", "nan", "0"), ("b2", "bee", "007", "1"), ("a2", "ant", "7", "0")]
    table(tmp_path / "labels.csv", rows, ("id", "label", "patient", "fold"))
    data = kaggle | {"group": "patient", "fold": "fold"}
    manifest.write_manifest(tmp_path / "out", built := manifest.build(data))
    read, _ = dataset.read_manifest(tmp_path / "out")
    assert read["group"].tolist() == ["007", "nan", "007", "7", "", ""]
    assert read["fold_given"].tolist() == ["1", "0", "1", "0", "", ""]
    assert built.info["digest"] != manifest.build(kaggle).info["digest"]
    table(tmp_path / "labels.csv", [(*row[:2], "", "0") for row in rows], ("id", "label", "patient", "fold"))
    refused(data, "line 2", "'patient' (data.group) is empty")
