"""Images and tables in archives, stacks of arrays, records and documents; what is refused of them."""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import checker
import miniatures
import numpy as np
import pytest
from inprocess import DEFAULTS, TINY, config_of, refused, run_in_this_process
from miniatures import encoded, put, table
from PIL import Image

from eightfold.inputs import dataset
from eightfold.raw import images, manifest
from eightfold.raw.stores import Store


@pytest.fixture
def zipped(tmp_path):
    """Six images in train.zip/in/, and their table within another archive; returns the config."""
    rows = [(f"{number:03d}", "ab"[number % 2]) for number in range(6)]
    miniatures.archive(
        tmp_path / "train.zip", {f"in/{name}.png": encoded(n % 2, n) for n, (name, _) in enumerate(rows)}
    )
    text = "id,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
    miniatures.archive(tmp_path / "labels.csv.zip", {"labels.csv": text.encode()})
    return DEFAULTS | {
        "root": str(tmp_path), "labels": "labels.csv.zip/labels.csv", "suffix": ".png", "train": "train.zip/in"
    }  # fmt: skip


def add_member(path: Path, name: str, content: bytes = b"x", **facts) -> None:
    member = zipfile.ZipInfo(name)
    for key, value in facts.items():
        setattr(member, key, value)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(member, content, zipfile.ZIP_DEFLATED)


def test_images_and_tables_in_archives_are_as_good_as_unpacked(zipped, tmp_path):
    built = manifest.build(zipped, threads=3)
    assert built.table["path"][0] == "train.zip/in/000.png" and built.table["id"].tolist()[1] == "001"
    with zipfile.ZipFile(tmp_path / "train.zip") as file:
        file.extractall(tmp_path / "train")
    unpacked = manifest.build(zipped | {"train": "train/in"})
    assert unpacked.table.drop(columns="path").equals(built.table.drop(columns="path"))
    folder = manifest.build(zipped | {"train": "train.zip"})  # the ids are unique below it
    assert folder.table["path"].tolist() == built.table["path"].tolist()
    assert not (tmp_path / "in").exists()


def test_class_folders_and_test_images_in_archives(tmp_path):
    members = {f"train/{kind}/{n}.png": encoded(label, n) for label, kind in enumerate("ab") for n in range(3)}
    members |= {f"test/{number}.png": encoded(0, 9 + number) for number in (10, 9)}
    miniatures.archive(tmp_path / "all.zip", members)
    data = DEFAULTS | {"source": "folders", "root": str(tmp_path), "train": "all.zip/train", "test": "all.zip/test"}
    built = manifest.build(data)
    assert built.info["classes"] == ["a", "b"] and built.table["id"].tolist()[-2:] == ["9", "10"]
    refused(data | {"train": "all.zip/trian"}, "no such folder (data.train)", "did you mean 'all.zip/train'")


@pytest.mark.parametrize("name", ["../out.png", "/etc/x.png", "in/../../x.png", "C:/x.png", "..\\x.png"])
def test_a_member_that_would_leave_its_folder_is_refused(zipped, tmp_path, name):
    add_member(tmp_path / "train.zip", name)
    refused(zipped, tmp_path / "train.zip", "would leave its folder")


def test_bombs_links_twins_and_encrypted_members_are_refused(zipped, tmp_path):
    whole = (tmp_path / "train.zip").read_bytes()

    def again() -> Path:
        (tmp_path / "train.zip").write_bytes(whole)
        return tmp_path / "train.zip"

    add_member(again(), "in/bomb.png", bytes(2**26 + 1))
    refused(zipped, "'in/bomb.png' is a zip bomb", "67,108,865")
    add_member(again(), "in/link.png", b"/etc/passwd", external_attr=0o120777 << 16)
    refused(zipped, "'in/link.png' is a link")
    with pytest.warns(UserWarning, match="Duplicate"):
        add_member(again(), "in/000.png")
    refused(zipped, "'in/000.png' is there twice")
    content = bytearray(again().read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the first entry of the directory
    (tmp_path / "train.zip").write_bytes(content)
    refused(zipped, "'in/000.png' is encrypted")
    (tmp_path / "train.zip").write_bytes(whole[:100])
    refused(zipped, tmp_path / "train.zip", "not a readable zip archive")


def test_a_member_that_says_less_than_it_holds_is_a_bad_image(zipped, tmp_path):
    content = bytearray((tmp_path / "train.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    size = struct.unpack_from("<I", content, entry + 24)[0]
    struct.pack_into("<I", content, entry + 24, size - 10)
    (tmp_path / "train.zip").write_bytes(content)
    refused(zipped, "train.zip/in/000.png: damaged in its archive")


def test_a_stack_of_arrays_with_labels_beside_it(tmp_path):
    stack = np.stack([miniatures.shades(number % 2, number)[:, :, 0] for number in range(8)])
    np.save(tmp_path / "x.npy", stack)
    np.save(tmp_path / "y.npy", np.arange(8) % 2 * 5)
    np.save(tmp_path / "t.npy", stack[:3])
    data = DEFAULTS | {"root": str(tmp_path), "labels": "y.npy", "train": "x.npy", "test": "t.npy"}
    built = manifest.build(data)
    assert built.table["id"].tolist() == [*map(str, range(8)), "0", "1", "2"]
    assert built.info["classes"] == ["0", "5"] and built.table["path"][7] == "x.npy/7"
    assert set(built.table["mode"]) == {"uint8x1"} and set(built.table["width"]) == {30}
    shown = images.open_image(Store(tmp_path, built.info["reading"]).read("x.npy/3"))
    np.testing.assert_array_equal(np.asarray(shown)[:, :, 1], stack[3])
    np.save(tmp_path / "x.npy", np.arange(5))
    refused(data, "x.npy", "not a stack of images")


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_become_images_of_their_range():
    def shown(array, span=None):
        return np.asarray(images.open_image(npy(array), span))

    ramp = np.array([[-40.0, -20.0, 0.0]])
    assert shown(ramp)[0, :, 0].tolist() == [0, 128, 255]  # its own least and greatest
    assert shown(ramp, (-60, 20))[0, :, 2].tolist() == [64, 128, 191]
    assert shown(np.full((2, 2), np.nan)).max() == 0
    assert shown(np.array([[0, 257, 65535]], np.uint16))[0, :, 0].tolist() == [0, 1, 255]
    assert shown(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]
    two = shown(np.dstack([ramp, ramp[:, ::-1]]), (-40, 0))
    assert two[0].tolist() == [[0, 255, 127], [128, 128, 128], [255, 0, 127]]
    first = shown(np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7))  # channels first
    assert first.shape == (5, 7, 3) and first[0, 1].tolist() == [1, 36, 71]
    for bad in (np.zeros((5, 5, 5)), np.zeros(4), np.zeros((0, 3)), np.array([["a"]]), np.zeros((2, 2), complex)):
        with pytest.raises(images.BadImage, match="not an image"):
            images.open_image(npy(bad))
    with pytest.raises(images.BadImage, match=r"not a readable \.npy"):
        images.open_image(npy(ramp)[:-5])
    with pytest.raises(images.BadImage, match=r"not a readable \.npy"):
        images.open_image(npy(np.array([object()], dtype=object)))  # a pickle


def test_16_bit_images_have_a_range_too():
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 1000, 4095]], np.uint16)).save(file, "PNG")
    assert np.asarray(images.open_image(file.getvalue(), (0, 4095)))[0, :, 0].tolist() == [0, 62, 255]


def test_images_that_are_files_of_arrays(tmp_path):
    for number in range(6):
        put(tmp_path / "train" / f"{number:05d}.npy", npy(miniatures.shades(number % 2, number)))
    table(tmp_path / "labels.csv", ["id", "label"], [(f"{number:05d}", number % 2) for number in range(6)])
    built = manifest.build(DEFAULTS | {"root": str(tmp_path), "suffix": ".npy"})
    assert built.table["id"][1] == "00001" and set(built.table["mode"]) == {"uint8x3"}


def test_a_dicom_file_without_its_library_is_told(monkeypatch):
    """Of a file, so that one DICOM called .jpg obeys data.bad_images and stops no prediction."""
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        images.BadImage, match=r"needs the package pydicom: pip install -r envs/requirements-extra\.txt"
    ):
        images.decode(bytes(128) + b"DICM" + bytes(50))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda r: r[2].pop("id"), ["record 3 has no 'id'"]),
        (lambda r: r[2].update(id="00000000"), ["'00000000'"]),
        (lambda r: r[2].pop("inc_angle"), ["record 3", "'inc_angle'"]),
        (lambda r: r[2].update(band_1=[1.0, 2.0]), ["00000002", "make no square"]),
        (lambda r: r[2].update(band_1=[1.0] * 4), ["00000002", "are not an image"]),
        (lambda r: r[2].update(band_1="x"), ["00000002", "not a list of numbers"]),
        (lambda r: r[2].update(band_1=["x"]), ["00000002", "not a list of numbers"]),
    ],
)
def test_broken_records_are_named(tmp_path, change, parts):
    miniatures.write("iceberg", tmp_path)
    records = json.loads((tmp_path / "train.json").read_text())
    change(records)
    (tmp_path / "train.json").write_text(json.dumps(records))
    refused(config_of("iceberg", tmp_path)["data"], *parts)


@pytest.mark.parametrize("content", ["{}", "[1]", "[", '{"a": [{}]}'])
def test_json_that_is_no_list_of_records(tmp_path, content):
    miniatures.write("iceberg", tmp_path)
    (tmp_path / "train.json").write_text(content)
    refused(config_of("iceberg", tmp_path)["data"], tmp_path / "train.json")


# ---- extras, where their libraries are


def test_a_7z_archive_is_a_folder_too(zipped, tmp_path):
    py7zr = pytest.importorskip("py7zr")
    expected = manifest.build(zipped)
    with zipfile.ZipFile(tmp_path / "train.zip") as file:
        file.extractall(tmp_path / "unpacked")
    with py7zr.SevenZipFile(tmp_path / "train.7z", "w") as file:
        file.writeall(tmp_path / "unpacked" / "in", "in")
    built = manifest.build(zipped | {"train": "train.7z/in"}, threads=2)
    assert built.table.drop(columns="path").equals(expected.table.drop(columns="path"))
    (tmp_path / "train.7z").write_bytes((tmp_path / "train.7z").read_bytes()[:200])
    refused(zipped | {"train": "train.7z/in"}, "train.7z")


def test_a_7z_archive_without_its_library_is_told(zipped, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py7zr", None)
    (tmp_path / "train.7z").write_bytes(b"7z")
    refused(zipped | {"train": "train.7z"}, "train.7z", "needs the package py7zr", "envs/requirements-extra.txt")


BSON = {"labels": "train.bson", "id": "_id", "label": "category_id", "train": "train.bson", "test": "test.bson"}
BSON["sample_submission"] = "sample_submission.csv"


def test_images_in_bson_documents(tmp_path, monkeypatch):
    pytest.importorskip("bson", reason="pymongo (envs/requirements-extra.txt) is not installed")
    monkeypatch.chdir(tmp_path)
    wanted = miniatures.write("cdiscount", tmp_path / "data")
    config = TINY | {"run": "cdiscount", "data": {"source": "csv", "root": "data", **BSON}}
    run_in_this_process(config, "results/cdiscount/submission.csv")
    assert checker.faults("cdiscount", tmp_path / "results/cdiscount/submission.csv", wanted) == []
    table, info = dataset.read_manifest(next((tmp_path / "results/cache").glob("data-*")))
    assert table["path"][1] == "train.bson/10" and info["classes"] == ["1000010653", "1000010660", "1000010667"]
    shown = images.open_image(Store("data", info["reading"]).read("train.bson/10"))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(images.open_image(io.BytesIO(encoded(1, 1, "JPEG")))))


def test_broken_bson_files_are_named(tmp_path):
    bson = pytest.importorskip("bson", reason="pymongo (envs/requirements-extra.txt) is not installed")
    data = DEFAULTS | BSON | {"root": str(tmp_path)}
    miniatures.write("cdiscount", tmp_path)
    whole = (tmp_path / "train.bson").read_bytes()
    for content, words in [
        (whole[:-7], "document 24 is cut off"),
        (whole + b"\0\0\0", "document 25 is cut off"),
        (whole + b"\x06\0\0\0\0\0", "document 25 is not BSON"),
        (whole + bson.encode({"category_id": 1}), "document 25 has no '_id' (data.id)"),
        (whole + bson.encode({"_id": -1}), "document 25 and document 1 differ in 'category_id'"),
        (whole + bson.encode({"_id": 9, "category_id": 1}), "the id '9' is that of an earlier one"),
        (whole + bson.encode({"_id": -1, "category_id": 1000010653, "imgs": []}), "no imgs[0].picture"),
    ]:
        (tmp_path / "train.bson").write_bytes(content)
        refused(data, "train.bson", words)


def test_a_bson_file_without_its_library_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bson", None)
    for name in ("train.bson", "test.bson"):
        (tmp_path / name).write_bytes(b"\x05\0\0\0\0")
    data = DEFAULTS | BSON | {"root": str(tmp_path), "sample_submission": None}
    refused(data, ".bson", "needs the package pymongo", "envs/requirements-extra.txt")


@pytest.mark.parametrize(("meaning", "expected"), [("MONOCHROME2", [0, 64, 255]), ("MONOCHROME1", [255, 191, 0])])
def test_a_dicom_image(meaning, expected):
    pydicom = pytest.importorskip("pydicom")
    values = np.array([[0, 1000, 4000]], np.uint16)
    file = pydicom.Dataset()
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 1, 3, 1, meaning
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelData, file.SOPClassUID, file.SOPInstanceUID = values.tobytes(), "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    content = io.BytesIO()
    pydicom.dcmwrite(content, file, enforce_file_format=True)
    image, mode = images.decode(content.getvalue())
    assert np.asarray(image)[0, :, 1].tolist() == expected and mode == f"DICOM {meaning}"
    assert np.asarray(images.open_image(content.getvalue(), (0, 8000)))[0, 2, 0] in (127, 128)
    with pytest.raises(images.BadImage, match="not a readable DICOM"):
        images.decode(content.getvalue()[:250])
