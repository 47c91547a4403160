"""`make new` reads the layouts of examples/ off generated miniatures, and what it writes is a config that holds."""

import json
from pathlib import Path

import pytest
from PIL import Image

from eightfold.config import guess
from eightfold.config.config_text import config_text
from eightfold.config.new_config import job_of
from eightfold.config.quality import ladder
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError
from eightfold.raw.manifest import build

ROOT = Path(__file__).parents[2]
TAGS = ["clear primary", "cloudy", "clear road water", "primary water", "clear primary road", "cloudy", "haze primary"]


def write_images(root, *names, size=(60, 40)):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number * 7 % 256, 80, 120)).save(root / name)


def table(path, head, rows):
    path.write_text("\n".join([head, *rows]) + "\n")


def dogs_vs_cats(root):
    write_images(
        root, *(f"{part}/{kind}/{i}.jpg" for part in ("train", "valid") for kind in ("cats", "dogs") for i in range(4))
    )
    write_images(root, "test/1.jpg", "test/2.jpg")


def ants_bees(root):
    write_images(
        root, *(f"{part}/{kind}/{i}.jpg" for part in ("train", "valid") for kind in ("ants", "bees") for i in range(4))
    )


def dog_breeds(root):
    breeds = ["basset hound", "cocker spaniel", "pug", "chow"]
    table(root / "labels.csv", "id,breed", [f"00{i}ab,{breeds[i % 4]}" for i in range(12)])
    write_images(root, *(f"train/00{i}ab.jpg" for i in range(12)), "test/x1.jpg", "test/x2.jpg")
    table(
        root / "sample_submission.csv", "id," + ",".join(sorted(breeds)), ["x1,.25,.25,.25,.25", "x2,.25,.25,.25,.25"]
    )


def planet(root):
    table(root / "train_v2.csv", "image_name,tags", [f"train_{i},{TAGS[i % 7]}" for i in range(14)])
    write_images(root, *(f"train-jpg/train_{i}.jpg" for i in range(14)), "test-jpg/test_0.jpg", size=(64, 64))


def satellite(root):
    write_images(
        root, *(f"train/{kind}/{i}.png" for kind in ("forest", "river", "road") for i in range(4)), size=(64, 64)
    )
    write_images(root, "test/a.png")


def whole_names(root):
    """Names with their suffix, another name for the folder, more columns than needed."""
    table(root / "list.csv", "width,file,class", [f"60,{i}.png,{'ab'[i % 2]}" for i in range(8)])
    write_images(root, *(f"images/{i}.png" for i in range(8)))


def bare_folders(root):
    """Nothing but a folder for each class."""
    write_images(root, *(f"{kind}/{i}.jpg" for kind in ("daisy", "tulip", "wild rose") for i in range(4)))


LAYOUTS = {
    bare_folders: {"source": "folders", "train": "."},
    dogs_vs_cats: {"source": "folders", "valid": "valid", "test": "test"},
    ants_bees: {"source": "folders", "valid": "valid"},
    dog_breeds: {
        "source": "csv",
        "labels": "labels.csv",
        "id": "id",
        "label": "breed",
        "suffix": ".jpg",
        "test": "test",
    }
    | {"sample_submission": "sample_submission.csv"},
    planet: {"source": "csv", "labels": "train_v2.csv", "id": "image_name", "label": "tags", "separator": " "}
    | {"suffix": ".jpg", "train": "train-jpg", "test": "test-jpg"},
    satellite: {"source": "folders", "test": "test"},
    whole_names: {"source": "csv", "labels": "list.csv", "id": "file", "label": "class", "train": "images"},
}


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_layout_is_recognised_and_its_config_reads_the_data(tmp_path, make):
    root = tmp_path / make.__name__
    root.mkdir()
    make(root)
    found = guess.infer(root)
    assert found.data == {"root": str(root), **LAYOUTS[make]}
    path = tmp_path / "made.yaml"
    path.write_text(config_text("made", found, ladder(job_of(found, gpu=False))[-1]))
    config = resolve(check_yaml_file(path), str(path))
    data = config["data"]
    if data["source"] == "folders" and (root / "test").is_dir():
        assert data["test"] == "test"
    manifest = build(data)
    assert manifest.info["classes"] == found.classes and manifest.info["task"] == found.task
    assert manifest.info["counts"]["train"] == found.labelled and manifest.info["counts"]["test"] == found.test
    assert found.size == (64 if make in (planet, satellite) else 40)


@pytest.mark.parametrize(("make", "preset"), [(planet, "top_down"), (satellite, "top_down"), (ants_bees, "side_on")])
def test_the_preset_follows_from_the_names(tmp_path, make, preset):
    root = tmp_path / make.__name__
    root.mkdir()
    make(root)
    assert guess.preset_for(guess.infer(root))[0] == preset


def test_spaces_within_names_are_no_separator():
    assert guess._separator(["cocker spaniel", "pug", "chow chow", "basset hound"] * 3) is None
    assert guess._separator(TAGS * 2) == " "
    assert guess._separator([tag.replace(" ", "|") for tag in TAGS] * 2) == "|"


def test_what_does_not_fit_is_said_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no images"):
        guess.infer(tmp_path)
    write_images(tmp_path, "cats/1.png", "dogs/1.png", "test/1.png")
    with pytest.raises(UserError, match="one level deeper"):
        guess.infer(tmp_path)


def test_the_config_reference_is_that_of_the_schema():
    import config_docs

    assert config_docs.PAGE.read_text() == config_docs.reference(), "run python scripts/config_docs.py"


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_a_coco_file_of_odd_parts_is_looked_at_without_a_traceback(tmp_path, part):
    """The manifest says what is wrong with it; a part that is not of mappings makes it no COCO file."""
    write_images(tmp_path / "train", "0.png", "1.png")
    content = {
        "images": [{"id": [1], "file_name": ["0.png"]}, {"id": 2, "file_name": "1.png"}],
        "annotations": [{"image_id": [1], "category_id": {}}],
        "categories": [{"id": [1], "name": "a"}, {"id": 2, "name": "b"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert guess.infer(tmp_path).data["source"] == "coco"
    (tmp_path / "labels.json").write_text(json.dumps(content | {part: [3, "x"]}))
    with pytest.raises(UserError):
        guess.infer(tmp_path)
