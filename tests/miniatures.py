"""Miniatures of real competitions: their files, columns, kinds of ids and samples, with a few tiny images.

Each is written below a folder as its competition's data page describes it; `write(name, root)` gives the ids to predict
in the sample's order. An image's shade tells its class, so that there is something to learn.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

TESTS = 6
RANZCR = [
    *("ETT - Abnormal", "ETT - Borderline", "ETT - Normal", "NGT - Abnormal", "NGT - Borderline"),
    *("NGT - Incompletely Imaged", "NGT - Normal", "CVC - Abnormal", "CVC - Borderline", "CVC - Normal"),
    "Swan Ganz Catheter Present",
]
PLANET = ["agriculture", "clear", "haze", "primary", "water"]


def shades(label: int, number: int, size: tuple[int, int] = (30, 24)) -> np.ndarray:
    """uint8 (height, width, 3) of a class: its own shade and stripes, and noise of its own for each image."""
    random = np.random.default_rng([label, number])
    width, height = size
    stripes = 30 * np.sin(np.arange(width) * (label + 1) / 3)
    grey = 40 + label * 53 % 180 + stripes + random.normal(0, 8, (height, width))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def encoded(label: int, number: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """An image file; mode I;16 has 16 bits, LA and RGBA a transparent rim."""
    image = Image.fromarray(shades(label, number))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image)[:, :, 0].astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.new("L", image.size, 200))
    else:
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def table(path: Path, head: Iterable[str], rows: Iterable[Iterable]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(head), *map(list, rows)])


def archive(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


def write(name: str, root: Path) -> list[str]:
    """Write the miniature of an example below ``root``; the ids that its competition wants answered."""
    root.mkdir(parents=True, exist_ok=True)
    return globals()[name](root)


def dogs_vs_cats(root: Path) -> list[str]:
    for split, each in (("train", 10), ("valid", 3)):
        for label, kind in enumerate(("cats", "dogs")):
            for number in range(each):
                put(
                    root / split / kind / f"{kind[:-1]}.{number + 100 * (split == 'valid')}.jpg",
                    encoded(label, number, "JPEG"),
                )
    for number in range(TESTS):
        put(root / "test" / f"{number + 1}.jpg", encoded(number % 2, 50 + number, "JPEG"))
    return [str(number + 1) for number in range(TESTS)]


def dogs_vs_cats_redux(root: Path) -> list[str]:
    for label, kind in enumerate(("cat", "dog")):
        for number in range(12):
            put(root / "train" / f"{kind}.{number}.jpg", encoded(label, number, "JPEG"))
    names = [str(number + 1) for number in range(TESTS)]
    for number, name in enumerate(names):
        put(root / "test" / f"{name}.jpg", encoded(number % 2, 50 + number, "JPEG"))
    table(root / "sample_submission.csv", ["id", "label"], [(name, 0.5) for name in names])
    return names


def dog_breeds(root: Path) -> list[str]:
    breeds = ["affenpinscher", "black-and-tan_coonhound", "dingo"]
    rows = [
        (f"{number:03d}bec180eb18c7604dcecc8fe0dba{label}", breed)
        for label, breed in enumerate(breeds)
        for number in range(10)
    ]
    for name, breed in rows:
        put(root / "train" / f"{name}.jpg", encoded(breeds.index(breed), int(name[:3]), "JPEG"))
    table(root / "labels.csv", ["id", "breed"], rows)
    names = [f"{number:03d}e621fc1a4a60f6da79dc53bdc02" for number in range(TESTS)]
    for number, name in enumerate(names):
        put(root / "test" / f"{name}.jpg", encoded(number % 3, 50 + number, "JPEG"))
    table(root / "sample_submission.csv", ["id", *breeds], [(name, *[1 / 3] * 3) for name in names])
    return names


def planet(root: Path) -> list[str]:
    for number in range(30):
        put(root / "train-jpg" / f"train_{number}.jpg", encoded(number % 5, number, "JPEG"))
    tags = [" ".join(dict.fromkeys([PLANET[3], PLANET[number % 3], PLANET[number % 5]])) for number in range(30)]
    table(root / "train_v2.csv", ["image_name", "tags"], [(f"train_{n}", cell) for n, cell in enumerate(tags)])
    for number in range(TESTS):
        put(root / "test-jpg" / f"test_{number}.jpg", encoded(number % 5, 50 + number, "JPEG"))
    return [f"test_{number}" for number in range(TESTS)]


def satellite(root: Path) -> list[str]:
    for label, kind in enumerate(["forest", "annual crop", "river"]):
        for number in range(8):
            put(root / "train" / kind / f"{kind}_{number}.jpg", encoded(label, number, "JPEG"))
    for number in range(TESTS):
        put(root / "test" / f"{number:04d}.jpg", encoded(number % 3, 50 + number, "JPEG"))
    return [f"{number:04d}" for number in range(TESTS)]


def plant_pathology_2020(root: Path) -> list[str]:
    classes = ["healthy", "multiple_diseases", "rust", "scab"]
    for number in range(28):
        put(root / "images" / f"Train_{number}.jpg", encoded(number % 4, number, "JPEG"))
    rows = [(f"Train_{number}", *(int(label == number % 4) for label in range(4))) for number in range(28)]
    table(root / "train.csv", ["image_id", *classes], rows)
    names = [f"Test_{number}" for number in range(TESTS)]
    for number, name in enumerate(names):
        put(root / "images" / f"{name}.jpg", encoded(number % 4, 50 + number, "JPEG"))
    table(root / "test.csv", ["image_id"], [[name] for name in names])
    table(root / "sample_submission.csv", ["image_id", *classes], [(name, *[0.25] * 4) for name in names])
    return names


def aptos2019(root: Path) -> list[str]:
    rows = [(f"{number:06x}a98f", number % 5) for number in range(30)]
    for number, (name, grade) in enumerate(rows):
        put(root / "train_images" / f"{name}.png", encoded(grade, number, mode=["RGB", "RGBA", "L"][number % 3]))
    table(root / "train.csv", ["id_code", "diagnosis"], rows)
    names = ["0005cfc8afb6", "003f0afdcd15", "006efc72b638", "00836aaacf06", "009245722fa4", "1e10"]
    for number, name in enumerate(names):
        put(root / "test_images" / f"{name}.png", encoded(number % 5, 50 + number))
    table(root / "test.csv", ["id_code"], [[name] for name in names])
    table(root / "sample_submission.csv", ["id_code", "diagnosis"], [(name, 0) for name in names])
    return names


def cassava(root: Path) -> list[str]:
    rows = [(f"{1000015157 + number * 7919}.jpg", number % 5) for number in range(30)]
    for number, (name, label) in enumerate(rows):
        put(root / "train_images" / name, encoded(label, number, "JPEG"))
    table(root / "train.csv", ["image_id", "label"], rows)
    put(root / "test_images" / "2216849948.jpg", encoded(4, 50, "JPEG"))
    table(root / "sample_submission.csv", ["image_id", "label"], [("2216849948.jpg", 4)])
    return ["2216849948.jpg"]


def histopathologic(root: Path) -> list[str]:
    rows = [(f"{number:02d}8a6640178ebaedb572591120c749957d333451", number % 2) for number in range(24)]
    for number, (name, label) in enumerate(rows):
        put(root / "train" / f"{name}.tif", encoded(label, number, "TIFF", ["RGB", "I;16"][number % 2 * (number > 20)]))
    table(root / "train_labels.csv", ["id", "label"], rows)
    names = [f"{number:02d}b2ea2a822ad23fdb1b5dd26653da899fbd2c0d5" for number in range(TESTS)]
    for number, name in enumerate(names):
        put(root / "test" / f"{name}.tif", encoded(number % 2, 50 + number, "TIFF"))
    table(root / "sample_submission.csv", ["id", "label"], [(name, 0) for name in names])
    return names


def aerial_cactus(root: Path) -> list[str]:
    rows = [(f"{number:04x}36a38df55d80f922114e2bce09.jpg", int(number % 4 > 0)) for number in range(28)]
    table(root / "train.csv", ["id", "has_cactus"], rows)
    train = {f"train/{name}": encoded(label, number, "JPEG") for number, (name, label) in enumerate(rows)}
    names = [f"{number:04x}940378805c44108d287872b2f04ce.jpg" for number in range(TESTS)]
    archive(root / "train.zip", {"train/": b"", **train, "__MACOSX/train/._x.jpg": b"x"})
    archive(root / "test.zip", {f"test/{name}": encoded(n % 2, 50 + n, "JPEG") for n, name in enumerate(names)})
    table(root / "sample_submission.csv", ["id", "has_cactus"], [(name, 0.5) for name in names])
    return names


def whale(root: Path) -> list[str]:
    whales = ["new_whale", "w_f48451c", "w_c3d896a", "w_20df2c5", *(f"w_{number:07x}" for number in range(6))]
    rows = [(f"{number:04d}e88ab.jpg", whales[number % 4 if number < 24 else number - 20]) for number in range(30)]
    for number, (name, kind) in enumerate(rows):
        put(root / "train" / name, encoded(whales.index(kind), number, "JPEG", ["RGB", "L"][number % 2]))
    table(root / "train.csv", ["Image", "Id"], rows)
    names = [f"{number:04d}dcbbc.jpg" for number in range(TESTS)]
    for number, name in enumerate(names):
        put(root / "test" / name, encoded(number % 4, 50 + number, "JPEG"))
    table(root / "sample_submission.csv", ["Image", "Id"], [(name, " ".join(whales[:5])) for name in names])
    return names


def ranzcr(root: Path) -> list[str]:
    random = np.random.default_rng(0)
    rows = []
    for number in range(36):
        uid, label = f"1.2.826.0.1.3680043.8.498.{26697628953273228189 + number}", number % 3
        marks = [int(place == label or random.random() < 0.25) for place in range(11)]
        marks = [0] * 11 if number == 5 else marks  # nothing found
        marks[3 + number % 8] = 1 if number != 5 else 0
        put(root / "train" / f"{uid}.jpg", encoded(label, number, "JPEG", "L"))
        rows.append((uid, *marks, f"{number // 3:09x}"))
    table(root / "train.csv", ["StudyInstanceUID", *RANZCR, "PatientID"], rows)
    names = [f"1.2.826.0.1.3680043.8.498.{46923145579096002617 + number}" for number in range(TESTS)]
    for number, name in enumerate(names):
        put(root / "test" / f"{name}.jpg", encoded(number % 3, 50 + number, "JPEG", "L"))
    table(root / "sample_submission.csv", ["StudyInstanceUID", *RANZCR], [(name, *[0] * 11) for name in names])
    return names


def iceberg(root: Path) -> list[str]:
    def record(name: str, label: int, number: int) -> dict:
        decibels = shades(label, number, (75, 75))[:, :, 0] / 4.0 - 40
        bands = {"band_1": decibels.round(3).ravel().tolist(), "band_2": (decibels - 5).round(3).ravel().tolist()}
        return {"id": name, **bands, "inc_angle": "na" if number % 5 == 0 else 43.9239}

    train = [record(f"{number:08x}", number % 2, number) | {"is_iceberg": number % 2} for number in range(20)]
    names = ["5941774d", "4023181e", "b20200e4", "e7f018bb", "4371c8c3", "00000007"]
    (root / "train.json").write_text(json.dumps(train))
    (root / "test.json").write_text(json.dumps([record(name, n % 2, 50 + n) for n, name in enumerate(names)]))
    table(root / "sample_submission.csv", ["id", "is_iceberg"], [(name, 0.5) for name in names])
    return names


def cdiscount(root: Path) -> list[str]:
    """Images in BSON documents, one product each; needs pymongo, so it has no example config of its own."""
    import bson

    def documents(numbers: range, labelled: bool) -> bytes:
        made = []
        for number in numbers:
            kind = number % 3
            images = [{"picture": encoded(kind, number + 100 * view, "JPEG")} for view in range(1 + number % 2)]
            label = {"category_id": 1000010653 + 7 * kind} if labelled else {}
            made.append(bson.encode({"_id": 9 + number * number, **label, "imgs": images}))
        return b"".join(made)

    put(root / "train.bson", documents(range(24), True))
    put(root / "test.bson", documents(range(30, 30 + TESTS), False))
    names = [str(9 + number * number) for number in range(30, 30 + TESTS)]
    table(root / "sample_submission.csv", ["_id", "category_id"], [(name, 1000010653) for name in names])
    return names


def inaturalist2019(root: Path) -> list[str]:
    kinds = [0, 3, 57, 400, 1009, 77]  # ids with gaps
    categories = [{"id": kind, "name": str(999 - kind), "supercategory": "Plants"} for kind in kinds]

    def coco(path: str, numbers: range) -> None:
        images, annotations = [], []
        for number in numbers:
            label = number % len(kinds)
            name = f"train_val2019/Plants/{kinds[label]}/{number:032x}.jpg"
            put(root / name, encoded(label, number, "JPEG"))
            images.append(
                {"id": number, "file_name": name, "width": 30, "height": 24, "license": 0, "rights_holder": ""}
            )
            annotations.append({"id": number, "image_id": number, "category_id": kinds[label]})
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories, "licenses": []}
        (root / path).write_text(json.dumps(content))

    coco("train2019.json", range(30))
    coco("val2019.json", range(265213, 265213 + 12))
    images = []
    for number in range(TESTS):
        images.append({"id": 268243 + number, "file_name": f"test2019/{number:032x}.jpg", "width": 30, "height": 24})
        put(root / images[-1]["file_name"], encoded(number % 6, 50 + number, "JPEG"))
    (root / "test2019.json").write_text(json.dumps({"info": {}, "images": images}))
    names = [str(image["id"]) for image in images]
    table(root / "kaggle_sample_submission.csv", ["id", "predicted"], [(name, "0 3 57") for name in names])
    return names
