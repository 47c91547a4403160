"""Where labels are: tables, columns, names of files, COCO; what is refused of them."""

import json
import signal
import time

import miniatures
import pytest
from inprocess import DEFAULTS, config_of, refused
from miniatures import encoded, put, table

from eightfold.core.listing import listing_digest
from eightfold.inputs import dataset
from eightfold.raw import folds, manifest, patterns


@pytest.fixture
def columns(tmp_path):
    """Four images with two columns of 0 and 1; returns (config, function that writes the table)."""
    for number in range(4):
        put(tmp_path / "train" / f"{number}.png", encoded(number, number))

    def rows(*cells):
        table(tmp_path / "labels.csv", ["id", "an owl", "a|b"], [(number, *row) for number, row in enumerate(cells)])

    rows((1, 0), (0, 1), (1, 0), (0, 1))
    return DEFAULTS | {"root": str(tmp_path), "suffix": ".png", "label": ["an owl", "a|b"]}, rows


def test_columns_of_one_label_a_row_are_a_single_label_job_and_others_are_not(columns):
    data, rows = columns
    assert manifest.build(data).info["task"] == "single"
    several = manifest.build(data | {"multi": True})
    assert several.info["task"] == "multi" and several.info["separator"] not in "a|b an owl"
    for cells in ([(1, 1), (0, 1), (1, 0), (0, 1)], [(0, 0), ("0.0", "1.0"), (1, 0), ("False", "True")]):
        rows(*cells)
        built = manifest.build(data)
        expected = [[float(str(cell) in ("1", "1.0", "True")) for cell in row] for row in cells]
        assert built.info["task"] == "multi" and dataset.targets(built.table, built.info).tolist() == expected
        refused(data | {"multi": False}, "several labels" if sum(map(int, cells[0])) else "line 2: no label")
    rows((1, 2), (0, 1), (1, 0), (0, 1))
    refused(data, "line 2", "'2' in column 'a|b'", "0 or 1")
    refused(data | {"label": ["an owl", "a b"]}, "'a b'", "data.label[1]")


def test_grades_are_in_natural_order_where_they_are_ordered(tmp_path):
    for number in range(12):
        put(tmp_path / "train" / f"{number}.png", encoded(number, number))
    table(tmp_path / "labels.csv", ["id", "label"], [(number, number) for number in range(12)])
    data = DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}
    assert manifest.build(data).info["classes"][:3] == ["0", "1", "10"]
    ordered = manifest.build(data | {"ordered": True})
    assert ordered.info["classes"] == [str(number) for number in range(12)] and ordered.info["ordered"]


def test_images_whose_ids_collide_without_their_suffix_are_named(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "test/5.png"):
        put(tmp_path / name, encoded(0, 0))
    data = DEFAULTS | {"source": "folders", "root": str(tmp_path)}
    put(tmp_path / "test" / "5.jpg", encoded(0, 1, "JPEG"))
    refused(data, "'5': test/5.jpg and test/5.png", "rename one of each pair")
    (tmp_path / "test" / "5.jpg").unlink()
    put(tmp_path / "train" / "a" / "1.jpg", encoded(0, 1, "JPEG"))
    refused(data, "'train/a/1': train/a/1.jpg and train/a/1.png")


def test_ids_with_and_without_the_suffix_and_in_folders_below(tmp_path):
    for name in ("a", "b", "0x1f"):
        put(tmp_path / "train" / name[:1] / f"{name}.png", encoded(0, 0))
    put(tmp_path / "train" / "c.png", encoded(1, 0))
    table(tmp_path / "labels.csv", ["id", "label"], [("a", 0), ("b", 1), ("0x1f", 0), ("c.png", 1)])
    data = DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}
    built = manifest.build(data)
    assert built.table["path"].tolist() == ["train/a/a.png", "train/b/b.png", "train/0/0x1f.png", "train/c.png"]
    assert built.table["id"].tolist() == ["a", "b", "0x1f", "c.png"]
    table(tmp_path / "labels.csv", ["id", "label"], [("a", 0), ("b", 1), ("0x1f", 0), ("c.png", 1), ("c", 1)])
    refused(data, "'train/c.png': line 5 and line 6")
    put(tmp_path / "train" / "z" / "a.png", encoded(0, 0))
    refused(data | {"suffix": ""}, "train/a")
    table(tmp_path / "labels.csv", ["id", "label"], [("a", 0), ("b", 1), ("0x1f", 0), ("c", 1)])
    refused(data, "line 2: 2 files have this name: train/a/a.png, train/z/a.png")


def test_a_sample_that_names_a_test_image_twice_is_refused(tmp_path):
    miniatures.write("histopathologic", tmp_path)
    data = config_of("histopathologic", tmp_path)["data"]
    names = [row.split(",")[0] for row in (tmp_path / "sample_submission.csv").read_text().splitlines()[1:]]
    table(tmp_path / "sample_submission.csv", ["id", "label"], [(n, 0) for n in [*names, f"{names[0]}.tif"]])
    refused(data, f"test/{names[0]}.tif", f"{names[0]!r} and '{names[0]}.tif'")


def test_a_stale_sample_is_refused_with_its_ids(tmp_path):
    miniatures.write("cassava", tmp_path)
    table(tmp_path / "sample_submission.csv", ["image_id", "label"], [("1.jpg", 4)])
    refused(config_of("cassava", tmp_path)["data"], "'1.jpg'", "'2216849948.jpg'", "sample_submission.csv")


def test_thousands_of_classes_of_one_image_each(tmp_path):
    content = encoded(0, 0)
    for number in range(2000):
        put(tmp_path / "train" / f"{number}.png", content)
    table(tmp_path / "labels.csv", ["id", "label"], [(number, f"w {number:05d}") for number in range(2000)])
    built = manifest.build(DEFAULTS | {"root": str(tmp_path), "suffix": ".png"}, threads=2)
    assert len(built.info["classes"]) == 2000 and len(set(dataset.targets(built.table, built.info))) == 2000
    found = folds.assign(built.table, built.info, {"method": "fastai07", "folds": 5}, 0)
    assert found["fold"].value_counts().tolist() == [400] * 5


def test_names_by_pattern_may_tell_ids_and_groups(tmp_path):
    for number in range(6):
        put(
            tmp_path / "train" / f"p{number // 2}" / f"{'ab'[number % 2]}-{number:04d}.png", encoded(number % 2, number)
        )
    put(tmp_path / "train" / "cover.png", encoded(0, 9))
    pattern = r"^(?P<group>p\d)/(?P<label>[a-z])-(?P<id>\d+)"
    data = DEFAULTS | {"root": str(tmp_path), "source": "filename", "pattern": pattern}
    refused(data, "train/cover.png", "does not match data.pattern")
    built = manifest.build(data | {"bad_images": "skip"})
    assert built.table["id"].tolist() == ["0000", "0002", "0004", "0001", "0003", "0005"]
    assert built.table["group"].tolist() == ["p0", "p1", "p2"] * 2 and built.info["classes"] == ["a", "b"]


@pytest.mark.parametrize("pattern", [r"^(?P<label>(a+)+)-$", r"(?P<label>(\w*\w*)*)!", r"^(?P<label>(a|aa)+)-$"])
def test_a_pattern_that_would_take_years_is_refused_in_seconds(tmp_path, monkeypatch, pattern):
    monkeypatch.setattr(patterns.searching.__wrapped__, "__defaults__", (0.5,))
    put(tmp_path / "train" / f"{'a' * 90}.png", encoded(0, 0))
    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    data = DEFAULTS | {"root": str(tmp_path), "source": "filename", "pattern": pattern}
    refused(data, "data.pattern", "takes more than 0.5 s on the name 'aaaa", "a repeat within a repeat")
    assert time.monotonic() - began < 5 and signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


# ---- COCO


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda c: c.pop("categories"), ["no list 'categories'", "data.labels"]),
        (lambda c: c["annotations"][3].update(category_id=4), ["annotation 4", "category 4"]),
        (lambda c: c["annotations"][3].update(image_id=-1), ["annotation 4", "image -1"]),
        (lambda c: c["images"][1].pop("file_name"), ["image 2", "'file_name'"]),
        (lambda c: c["images"][1].update(file_name="../x.jpg"), ["image 2", "'../x.jpg'", "out of the data folder"]),
        (lambda c: c["images"][1].update(file_name="x.jpg"), ["image 2: no such file"]),
        (lambda c: c["categories"][1].pop("id"), ["category 2", "'id'"]),
        (lambda c: c["annotations"].pop(0), ["image 1: no label"]),
        (lambda c: c["images"][1].update(id=[1]), ["image 2: 'id'", "is a list"]),
        (lambda c: c["images"][1].update(file_name=["a.jpg"]), ["image 2: 'file_name'", "is a list"]),
        (lambda c: c["annotations"][3].update(image_id=[1]), ["annotation 4: 'image_id'", "is a list"]),
        (lambda c: c["annotations"][3].update(category_id={"id": 1}), ["annotation 4: 'category_id'", "is a mapping"]),
        (lambda c: c["categories"][1].update(id=[]), ["category 2: 'id'", "is a list"]),
        (lambda c: c["categories"].insert(0, [3]), ["category 1 has no"]),
        (lambda c: c.update(images=["a.jpg"]), ["image 1 has no 'id'"]),
    ],
)
def test_broken_coco_files_are_named(tmp_path, change, parts):
    miniatures.write("inaturalist2019", tmp_path)
    content = json.loads((tmp_path / "train2019.json").read_text())
    change(content)
    (tmp_path / "train2019.json").write_text(json.dumps(content))
    refused(config_of("inaturalist2019", tmp_path)["data"], *parts)


def test_coco_images_may_have_several_labels_or_none(tmp_path):
    miniatures.write("inaturalist2019", tmp_path)
    content = json.loads((tmp_path / "train2019.json").read_text())
    extra = [content["annotations"][0] | {"category_id": 1009}, dict(content["annotations"][0])]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1] + extra
    (tmp_path / "train2019.json").write_text(json.dumps(content))
    data = config_of("inaturalist2019", tmp_path)["data"]
    built = manifest.build(data | {"label": "name"})
    hot = dataset.targets(built.table, built.info)
    assert built.info["task"] == "multi" and hot[:3].sum(1).tolist() == [2, 0, 1]
    assert "999" in built.info["classes"]
    refused(data | {"multi": False}, "1 images have several labels", "image 1: 0, 1009")
    refused(data | {"label": "names"}, "category 1 has no 'names'", "did you mean 'name'")
    refused(data | {"label": "supercategory"}, "category 2", "'Plants'")


def test_the_listing_sees_a_corrected_label_in_json(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    first = listing_digest(tmp_path)
    (tmp_path / "a.json").write_text("[2]")
    assert listing_digest(tmp_path) != first
