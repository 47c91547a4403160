"""Every layout of labels and images x every format of a submission that fits it: the whole workflow, a tiny network.

Each layout's images go through all the rules once, in this process, to an accepted submission; each further format is then
what a changed `submission.format` would rerun, the last rule alone. A checker that shares no code with the writer re-reads
every file, and the answers are recomputed from the predictions.
"""

import csv
import io
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import checker
import miniatures
import numpy as np
import pytest
from inprocess import ROOT, TINY, Named, run_in_this_process
from miniatures import encoded, put, table

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve

TRAIN, TEST = 24, 5
LETTERS = ["a dog", "b", "c.1"]
COLUMNS = ("id", "label")
NUMBERS = [f"{n:03d}" for n in range(TRAIN)]
ODD = ["007", "nan", "1e5", "a.b.c", "12345678901234567890"]
CSV = {"source": "csv", "labels": "labels.csv", "train": "train", "test": "test"}


def label(number: int) -> int:
    """The class of an image; the classes are of different sizes."""
    return (0, 1, 2, 0)[number % 4]


def write_images(root: Path, train: dict[str, int], test: list[str], kind: str = "PNG", modes=("RGB",)) -> None:
    """Write files of {path: class}, and of test paths."""
    for number, (path, own) in enumerate([*train.items(), *((path, label(n)) for n, path in enumerate(test))]):
        put(root / path, encoded(own, number, kind, modes[number % len(modes)]))


def labelled(root: Path, ids: list[str], names: list[str], head=COLUMNS, **more: list) -> None:
    rows = [(name, names[label(n)], *(column[n] for column in more.values())) for n, name in enumerate(ids)]
    table(root / "labels.csv", [*head, *more], rows)


def plain(root: Path, ids: list[str], test: list[str], names: list[str] = LETTERS, end: str = ".png", **how) -> dict:
    write_images(
        root, {f"train/{name}{end}": label(n) for n, name in enumerate(ids)}, [f"test/{t}{end}" for t in test], **how
    )
    labelled(root, ids, names)
    return CSV | {"suffix": end}


# ---- layouts: write the data below root; give data's keys, the classes in order, the ids to predict, and other sections


def numeric_ids_without_suffix(root):
    return plain(root, NUMBERS, ODD), LETTERS, ODD


def text_ids_with_suffix(root):
    ids = [f"x{number}.v1.png" for number in NUMBERS]
    test = [f"y.{number}.png" for number in range(TEST)]
    write_images(root, {f"train/{name}": label(n) for n, name in enumerate(ids)}, [f"test/{name}" for name in test])
    labelled(root, ids, ["0", "3", "11"])
    return CSV, ["0", "11", "3"], [Path(name).stem for name in test]


def ordered_grades(root):
    return plain(root, NUMBERS, ODD, ["2", "10", "0"]) | {"ordered": True}, ["0", "2", "10"], ODD


def a_column_per_class(root):
    data = plain(root, NUMBERS, ODD)
    rows = [(name, *(int(label(n) == c) for c in range(3))) for n, name in enumerate(NUMBERS)]
    table(root / "labels.csv", ["id", *LETTERS], rows)
    return data | {"label": LETTERS}, LETTERS, ODD


def a_column_per_class_of_several_labels(root):
    data = plain(root, NUMBERS, ODD)
    rows = [(name, *(int(label(n) == c or (n + c) % 3 == 0) for c in range(3))) for n, name in enumerate(NUMBERS)]
    table(root / "labels.csv", ["id", *LETTERS], rows)
    return data | {"label": LETTERS}, LETTERS, ODD, {"multi": True}


def several_labels_in_a_cell(root):
    data = plain(root, NUMBERS, ODD)
    cells = ["; ".join(dict.fromkeys([LETTERS[label(n)], LETTERS[n % 3]])) for n in range(TRAIN)]
    table(root / "labels.csv", COLUMNS, list(zip(NUMBERS, cells, strict=True)))
    return data | {"separator": "; "}, LETTERS, ODD, {"multi": True}


def class_folders(root):
    for n, name in enumerate(NUMBERS):
        put(root / "train" / LETTERS[label(n)] / f"{name}.png", encoded(label(n), n))
    write_images(root, {}, [f"test/{name}.png" for name in ODD])
    return {"source": "folders"}, LETTERS, ODD


def label_in_the_file_name(root):
    names = ["cat", "dog", "red fox"]
    write_images(
        root,
        {f"train/{names[label(n)]}.{n}.jpg": label(n) for n in range(TRAIN)},
        [f"test/{t}.jpg" for t in ODD],
        "JPEG",
    )
    return {"source": "filename", "pattern": r"^(?P<label>[a-z ]+)\.", "test": "test"}, names, ODD


def coco(root):
    kinds, names = [4, 90, 17], [f"p/{name}.jpg" for name in NUMBERS]
    tests = [f"t/{number}.jpg" for number in range(TEST)]
    write_images(root, {name: label(n) for n, name in enumerate(names)}, tests, "JPEG")
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": kinds[label(n)]} for n in range(TRAIN)],
        "categories": [{"id": kind, "name": f"kind {kind}"} for kind in kinds],
    }
    (root / "train.json").write_text(json.dumps(content))
    (root / "test.json").write_text(
        json.dumps({"images": [{"id": 900 + n, "file_name": name} for n, name in enumerate(tests)]})
    )
    data = {
        "source": "coco",
        "labels": "train.json",
        "train": ".",
        "test": "test.json",
        "test_images": ".",
        "label": "name",
    }
    return data, ["kind 17", "kind 4", "kind 90"], [str(900 + n) for n in range(TEST)]


def zip_archives(root):
    data = plain(root, NUMBERS, ODD)
    for part in ("train", "test"):
        files = sorted((root / part).iterdir())
        miniatures.archive(root / f"{part}.zip", {f"{part}/{file.name}": file.read_bytes() for file in files})
        for file in files:
            file.unlink()
        (root / part).rmdir()
    return data | {"train": "train.zip/train", "test": "test.zip"}, LETTERS, ODD


def a_stack_of_arrays(root):
    shades = [miniatures.shades(label(n), n) for n in range(TRAIN + TEST)]
    np.save(root / "x.npy", np.stack(shades[:TRAIN]))
    np.save(root / "t.npy", np.stack(shades[TRAIN:]))
    np.save(root / "y.npy", np.array([label(n) for n in range(TRAIN)]))
    data = {"source": "csv", "labels": "y.npy", "train": "x.npy", "test": "t.npy"}
    return data, ["0", "1", "2"], [str(number) for number in range(TEST)]


def files_of_arrays(root):
    data = plain(root, NUMBERS, ODD)
    for number, path in enumerate(sorted(root.glob("t*/*.png"))):
        np.save(path.with_name(path.name.removesuffix(".png") + ".npy"), miniatures.shades(number % 3, number))
        path.unlink()
    return data | {"suffix": ".npy"}, LETTERS, ODD


def bands_of_numbers_in_json(root):
    def record(name, n, **told):
        grey = miniatures.shades(label(n), n, (12, 12))[:, :, 0].astype(float)
        return {"id": name, "b1": grey.ravel().tolist(), "b2": (grey / 2).ravel().tolist(), **told}

    (root / "train.json").write_text(
        json.dumps([record(name, n, label=LETTERS[label(n)]) for n, name in enumerate(NUMBERS)])
    )
    (root / "test.json").write_text(json.dumps([record(name, n) for n, name in enumerate(ODD)]))
    data = {"source": "csv", "labels": "train.json", "train": "train.json", "test": "test.json", "bands": ["b1", "b2"]}
    return data, LETTERS, ODD


def tiff_alpha_16_bits_and_one_channel(root):
    data = plain(root, NUMBERS, ODD, modes=("RGBA", "I;16", "L", "LA", "P", "1"))
    return data, LETTERS, ODD


def tiff(root):
    return plain(root, NUMBERS, ODD, end=".tif", kind="TIFF", modes=("I;16", "L", "CMYK")), LETTERS, ODD


def two_classes(root):
    data = plain(root, NUMBERS, ODD)
    table(root / "labels.csv", COLUMNS, [(name, int(label(n) > 0)) for n, name in enumerate(NUMBERS)])
    return data, ["0", "1"], ODD


def a_group_column(root):
    data = plain(root, NUMBERS, ODD)
    labelled(root, NUMBERS, LETTERS, patient=[f"p{n // 3}" for n in range(TRAIN)])
    return data | {"group": "patient"}, LETTERS, ODD, {"split": {"method": "stratified_grouped"}}


def one_folder_and_two_lists(root):
    data = plain(root, NUMBERS, ODD)
    for path in (root / "test").iterdir():
        path.rename(root / "train" / path.name)
    table(root / "test.csv", ["id"], [[name] for name in ODD])
    return data | {"test": "test.csv", "test_images": "train"}, LETTERS, ODD


def one_folder_and_the_sample_alone(root, head=COLUMNS, cells=("b",)):
    data = one_folder_and_two_lists(root)[0]
    (root / "test.csv").unlink()
    table(root / "sample.csv", head, [(name, *cells) for name in ODD[::-1]])
    data |= {"test": None, "sample_submission": "sample.csv"}
    return data, LETTERS, ODD, {"formats": ["label", "index", "top_k"]}


def a_sample_of_a_column_per_class(root):
    # In another order than the classes': the file's columns are the sample's.
    data, *_ = one_folder_and_the_sample_alone(root, ["id", *LETTERS[::-1]], (0, 0, 1))
    return data, LETTERS, ODD, {"formats": ["probabilities", "zero_one"], "columns": LETTERS[::-1]}


def nested_folders(root):
    ids, test = [f"{n % 4:x}b{name}" for n, name in enumerate(NUMBERS)], ["0a1", "1a1", "0a2", "1b1", "0b2"]
    train = {f"train/{name[0]}/{name[1]}/{name}.png": label(n) for n, name in enumerate(ids)}
    write_images(root, train, [f"test/{name[0]}/{name}.png" for name in test])
    labelled(root, ids, LETTERS)
    return CSV | {"suffix": ".png"}, LETTERS, test


def a_long_tail(root):
    names = [f"w_{n:04d}" for n in range(TRAIN - 16)]
    kinds = [n % 2 for n in range(18)] + [2 + n for n in range(TRAIN - 18)]
    write_images(
        root,
        {f"train/{name}.png": kind for name, kind in zip(NUMBERS, kinds, strict=True)},
        [f"test/{t}.png" for t in ODD],
    )
    table(root / "labels.csv", COLUMNS, [(name, names[kind]) for name, kind in zip(NUMBERS, kinds, strict=True)])
    data = CSV | {"suffix": ".png"}
    return data, names, ODD, {"split": {"rare": "train"}}


def dicom(root):
    pydicom = pytest.importorskip("pydicom", reason="pydicom (envs/requirements-extra.txt) is not installed")
    data = plain(root, NUMBERS, ODD)
    for number, path in enumerate(sorted(root.glob("t*/*.png"))):
        file = pydicom.Dataset()
        grey = miniatures.shades(number % 3, number)[:, :, 0]
        file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = *grey.shape, 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
        file.PixelData, file.SOPClassUID, file.SOPInstanceUID = grey.tobytes(), "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
        file.file_meta = pydicom.dataset.FileMetaDataset()
        file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        content = io.BytesIO()
        pydicom.dcmwrite(content, file, enforce_file_format=True)
        put(path.with_name(path.name.removesuffix(".png") + ".dcm"), content.getvalue())
        path.unlink()
    return data | {"suffix": ".dcm"}, LETTERS, ODD


def archives_of_7z(root):
    py7zr = pytest.importorskip("py7zr", reason="py7zr (envs/requirements-extra.txt) is not installed")
    data = plain(root, NUMBERS, ODD)
    for part in ("train", "test"):
        with py7zr.SevenZipFile(root / f"{part}.7z", "w") as file:
            file.writeall(root / part, part)
        (root / part).rename(root.parent / part)
    return data | {"train": "train.7z/train", "test": "test.7z/test"}, LETTERS, ODD


def bson_documents(root):
    pytest.importorskip("bson", reason="pymongo (envs/requirements-extra.txt) is not installed")
    ids = miniatures.write("cdiscount", root)
    data = {"source": "csv", "labels": "train.bson", "id": "_id", "label": "category_id", "train": "train.bson"}
    return data | {"test": "test.bson"}, ["1000010653", "1000010660", "1000010667"], ids


# A class of one image always trains where split.rare says so; test images are named by ids that a table would spoil.
LAYOUTS = [
    *(numeric_ids_without_suffix, text_ids_with_suffix, ordered_grades, a_column_per_class),
    *(a_column_per_class_of_several_labels, several_labels_in_a_cell, class_folders, label_in_the_file_name, coco),
    *(zip_archives, a_stack_of_arrays, files_of_arrays, bands_of_numbers_in_json, tiff_alpha_16_bits_and_one_channel),
    *(tiff, two_classes, a_group_column, one_folder_and_two_lists, one_folder_and_the_sample_alone),
    *(a_sample_of_a_column_per_class, nested_folders, a_long_tail, dicom, archives_of_7z, bson_documents),
]
ONE_LABEL, SEVERAL = (
    ["probabilities", "label", "index", "top_k", "zero_one"],
    ["probabilities", "tags", "top_k", "zero_one"],
)


def expected(kind: str, p: np.ndarray, classes: list[str], columns: list[str], several: bool, separator: str, k: int):
    """The cells of a row, from its probabilities (classes,), by the format's own definition; no thresholds are tuned."""
    best = np.argsort(-p, kind="stable")
    chosen = {c for c in range(len(p)) if p[c] > 0.5} or {best[0]} if several else {best[0]}
    if kind == "zero_one":
        chosen = {c for c in range(len(p)) if p[c] > 0.5} if several else chosen
        return [str(int(classes.index(name) in chosen)) for name in columns]
    if kind == "tags":
        return [separator.join(classes[c] for c in sorted(chosen))]
    if kind == "top_k":
        return [separator.join(classes[c] for c in best[:k])]
    return [{"label": classes[best[0]], "index": str(best[0])}[kind]]


def numbers_agree(cells: list[str], p: np.ndarray) -> bool:
    return np.allclose(np.array(cells, float), p, atol=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_to_an_accepted_submission_of_every_format(layout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    data, classes, ids, *more = layout(tmp_path / "data")
    more = more[0] if more else {}
    several, columns = more.get("multi", False), more.get("columns", classes)
    formats = more.get("formats") or (SEVERAL if several else ONE_LABEL)
    formats = formats + ["positive"] * (len(classes) == 2)
    names = (
        data.get("id", "id"),
        data["label"] if isinstance(data.get("label"), str) and data["source"] == "csv" else "label",
    )
    separator = data.get("separator") or ("|" if any(" " in name for name in classes) else " ")
    config = TINY | {"run": "run", "data": {**data, "root": "data"}, "tta": {"views": 0}}
    config |= {"split": TINY["split"] | more.get("split", {}), "tuning": {"clip": False, "thresholds": "none"}}
    k, path = min(2, len(classes)), tmp_path / "results" / "run" / "submission.csv"
    for number, kind in enumerate(formats):
        config["submission"] = {"format": kind, "top_k": k, "separator": separator, "gzip": number == 0}
        if not number:
            ran = run_in_this_process(config, "results/run/submission.csv.gz")
            assert {"manifest.py", "pixels.py", "train.py", "predict.py", "score.py"} <= set(ran)
            with open("results/run/predictions/test.csv", newline="", encoding="utf-8") as file:
                predicted = {row[0]: np.array(row[1:], float) for row in list(csv.reader(file))[1:]}
        else:
            path.unlink()
            again(config)
        rule = checker.rule_of(kind, columns, names, several, separator, k)
        assert checker.faults_by(rule, path, ids) == [], kind
        for name, *cells in list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))[1:]:
            if kind in ("probabilities", "positive"):
                p = predicted[name][[classes.index(c) for c in columns]]
                assert numbers_agree(cells, p if kind == "probabilities" else p[-1:])
            else:
                assert cells == expected(kind, predicted[name], classes, columns, several, separator, k), (kind, name)
    assert len(list(path.parent.glob("submission.csv.gz"))) == 1


def again(config: dict) -> None:
    """Run the rule that a changed format of the submission makes stale, as Snakemake would: the last one alone."""
    plan = Plan(resolve(config, "test"))
    folder, inputs = plan.data_folder, {"test": "predictions/test.csv", "tuning": "tuning.json"}
    job = SimpleNamespace(
        input=Named(manifest=f"{folder}/manifest.csv", **{k: f"{plan.run}/{v}" for k, v in inputs.items()}),
        output=Named(submission=f"{plan.run}/submission.csv"),
        params=Named(settings=plan.write_submission_settings()),
        log=[f"{plan.run}/logs/write_submission.log"],
        threads=1,
    )
    runpy.run_path(str(ROOT / "scripts" / "write_submission.py"), {"snakemake": job})
