"""The real example: cells and weights out of their packages, laid out as a job; the packages themselves where they are installed."""

import csv
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from inprocess import ROOT
from PIL import Image

from eightfold.config import plan
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core import tensors
from eightfold.core.files import UserError
from eightfold.net import starting_weights
from eightfold.raw import manifest, solar

PACKAGES = "needs envs/requirements-solar.txt"
timm = pytest.mark.skipif(not plan.installed("timm"), reason="timm (envs/requirements-solar.txt) is not installed")
WEIGHTS = {"conv.weight": (4, 3, 3, 3), "bn.weight": (4,), "bn.bias": (4,), "bn.num_batches_tracked": ()}


def rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


# ---- the package of photographs, made small


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package elpv_dataset of 44 small photographs on the import path, as the real one is laid out."""
    site = tmp_path / "site"
    images = site / solar.CELLS / "data" / "images"
    images.mkdir(parents=True)
    (site / solar.CELLS / "__init__.py").write_text("raise RuntimeError('it need not be imported')\n")
    lines = []
    for number in range(44):
        name = f"cell{number + 1:04d}.png"
        Image.fromarray(np.full((12, 12), number * 5, np.uint8)).save(images / name)
        lines.append(f"images/{name}  {['0.0', '0.3333333333333333', '0.6666666666666666', '1.0'][number % 4]:<19} ")
        lines[-1] += "mono" if number % 11 < 4 else "poly"
    (site / solar.CELLS / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(site)
    return site / solar.CELLS / "data"


def test_a_probability_of_a_half_or_more_is_a_defect(package):
    cells = solar.read_cells(solar.package_folder(solar.CELLS) / "data")
    assert [cell.label for cell in cells[:4]] == ["functional", "functional", "defective", "defective"]
    assert [cell.id for cell in cells] == [f"cell{number + 1:04d}" for number in range(44)]
    assert Counter(cell.kind for cell in cells) == {"mono": 16, "poly": 28}


def test_every_photograph_is_in_train_or_test_and_no_label_of_a_test_photograph_lies_below_the_root(package, tmp_path):
    root = tmp_path / "made" / "job"
    solar.write_job(solar.read_cells(package), root)
    known, held_back = rows(root / "labels.csv"), rows(root.parent / "held_back.csv")
    assert known[0] == held_back[0] == ["id", "label", "type"]
    for split, listed in (("train", known), ("test", held_back)):
        assert sorted(path.name for path in (root / split).iterdir()) == sorted(f"{row[0]}.png" for row in listed[1:])
        for row in listed[1:]:
            assert (root / split / f"{row[0]}.png").read_bytes() == (package / "images" / f"{row[0]}.png").read_bytes()
    listed = {
        Path(line.split()[0]).stem: line.split()[1:] for line in (package / "labels.csv").read_text().splitlines()
    }
    for name, label, kind in known[1:] + held_back[1:]:
        assert (label == "defective") == (float(listed.pop(name)[0]) > 0.5) and kind in ("mono", "poly")
    assert not listed
    sample = rows(root / "sample_submission.csv")
    assert sample[0] == ["id", "defective", "functional"]
    assert [row[0] for row in sample[1:]] == [row[0] for row in held_back[1:]]
    assert {path.name for path in root.iterdir()} == {"train", "test", "labels.csv", "sample_submission.csv"}
    assert "CC BY-NC-SA 4.0" in (root.parent / "about.txt").read_text()


def test_a_quarter_of_each_label_of_each_type_is_held_back(package):
    cells = solar.read_cells(package)
    test = solar.held_back(cells)
    assert test.sum() == 11
    for kind in {(cell.label, cell.kind) for cell in cells}:
        of_kind = np.array([(cell.label, cell.kind) == kind for cell in cells])
        assert abs((of_kind & test).sum() - of_kind.sum() / 4) < 1


def test_the_same_bytes_again_and_nothing_left_behind(package, tmp_path):
    root = tmp_path / "made" / "job"
    cells = solar.read_cells(package)
    solar.write_job(cells, root)
    files = {path: path.read_bytes() for path in root.parent.rglob("*.*")}
    (root / "train" / "stale.png").write_bytes(b"of an older version")
    solar.write_job(cells, root)
    assert {path: path.read_bytes() for path in root.parent.rglob("*.*")} == files
    assert {path.name for path in root.parent.iterdir()} == {"job", "held_back.csv", "about.txt"}


def test_the_example_reads_what_is_laid_out(package, tmp_path):
    solar.write_job(solar.read_cells(package), tmp_path / "job")
    config = check_yaml_file(ROOT / "examples" / "solar_cells.yaml")
    assert config["data"]["root"] == "data/solar_cells/job" and config["model"]["arch"] == solar.ARCH
    config["data"]["root"] = str(tmp_path / "job")
    built = manifest.build(resolve(config, "solar_cells.yaml")["data"])
    assert built.rejected.empty and built.info["classes"] == ["defective", "functional"]
    assert dict(built.table["split"].value_counts()) == {"train": 33, "test": 11}
    assert set(built.table["labels"][built.table["split"] == "test"]) == {""}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("images/cell0045.png  0.5", "line 45"),
        ("images/cell0045.png  1.5  mono", "line 45"),
        ("images/../cell.png  1.0  mono", "line 45"),
        ("images/cell0045.png  1.0  thin", "<mono or poly>"),
        ("images/cell0045.png  1.0  mono", "does not exist"),
        ("images/cell0001.png  1.0  mono", "is listed twice"),
    ],
)
def test_a_table_that_is_not_the_package_s_is_refused_by_line(package, line, words):
    with open(package / "labels.csv", "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=words) as caught:
        solar.read_cells(package)
    assert str(package / "labels.csv") in str(caught.value)


def test_a_package_that_is_missing_is_named_with_the_list_that_has_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"elpv_dataset is not installed.*envs/requirements-solar\.txt"):
        solar.package_folder(solar.CELLS)


# ---- the package of weights


def state(names: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, number) for number, (name, shape) in enumerate(names.items())}


def test_tensors_get_their_names_by_order():
    theirs = {"_conv.weight": (4, 3, 3, 3), "_b0.weight": (4,), "_b0.bias": (4,), "_b0.num_batches_tracked": ()}
    found = solar.renamed(state(theirs), WEIGHTS, "x.pth")
    assert list(found) == list(WEIGHTS)
    for number, (name, shape) in enumerate(WEIGHTS.items()):
        assert torch.equal(found[name], torch.full(shape, number))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"_conv.weight": (4, 3, 5, 5)}, r"_conv\.weight \(4, 3, 5, 5\) stands where .* conv\.weight \(4, 3, 3, 3\)"),
        ({"_b0.weight": (8,)}, r"_b0\.weight \(8,\) stands where .* bn\.weight \(4,\)"),
    ],
)
def test_a_tensor_of_another_shape_is_refused_by_its_name(changed, words):
    theirs = {"_conv.weight": (4, 3, 3, 3), "_b0.weight": (4,), "_b0.bias": (4,), "_b0.num_batches_tracked": ()}
    with pytest.raises(UserError, match=words) as caught:
        solar.renamed(state(theirs | changed), WEIGHTS, "x.pth")
    assert str(caught.value).startswith("x.pth: ")


def test_vectors_of_one_shape_in_another_order_are_refused():
    theirs = {"_conv.weight": (4, 3, 3, 3), "_b0.bias": (4,), "_b0.weight": (4,), "_b0.num_batches_tracked": ()}
    with pytest.raises(UserError, match=r"_b0\.bias \(4,\) stands where .* bn\.weight"):
        solar.renamed(state(theirs), WEIGHTS, "x.pth")


def test_a_tensor_too_few_is_refused():
    with pytest.raises(UserError, match="3 tensors, but timm/tf_efficientnet_lite0 has 4"):
        solar.renamed(state(dict(list(WEIGHTS.items())[:3])), WEIGHTS, "x.pth")


@timm
def test_weights_of_another_package_s_names_give_timm_s_network(tmp_path):
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("tf_efficientnet_lite0").eval()
    (tmp_path / "models").mkdir()
    theirs = {f"_{number}.{name.rpartition('.')[2]}": t for number, (name, t) in enumerate(model.state_dict().items())}
    torch.save(theirs, tmp_path / "models" / "some-1234.pth")
    path = tmp_path / "weights.safetensors"
    tensors.save(path, solar.read_weights(tmp_path), "test")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    again = timm.create_model("tf_efficientnet_lite0").eval()
    again.load_state_dict(tensors.load(path), strict=True)
    trunk, mean, std = starting_weights.pretrained(solar.ARCH, str(path), 0)
    with torch.inference_mode():
        assert torch.equal(again(x), model(x))
        last = model.forward_features(x)
        torch.testing.assert_close(trunk.eval()(x), torch.cat([last.amax((2, 3)), last.mean((2, 3))], 1))
    assert mean == std == (0.5, 0.5, 0.5)


def test_a_folder_without_one_file_of_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"models: 0 files \*\.pth"):
        solar.read_weights(tmp_path)


def test_a_damaged_file_of_weights_is_refused(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "some-1234.pth").write_bytes(b"not a file of torch")
    with pytest.raises(UserError, match=r"some-1234\.pth: not a plain file of weights"):
        solar.read_weights(tmp_path)


# ---- the packages themselves, where they are installed


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    for package in (solar.CELLS, solar.WEIGHTS):
        try:
            solar.package_folder(package)
        except UserError:
            pytest.skip(f"{package} is not installed; {PACKAGES}")
    if not plan.installed("timm"):
        pytest.skip(f"timm is not installed; {PACKAGES}")
    folder = tmp_path_factory.mktemp("solar")
    yield folder, solar.lay_out(folder)
    shutil.rmtree(folder)


def test_the_real_package_gives_a_quarter_of_each_kind(laid_out):
    folder, made = laid_out
    known, held_back = (rows(folder / name)[1:] for name in ("job/labels.csv", "held_back.csv"))
    assert made["images"] == 2624 and (len(known), len(held_back)) == (1968, 656)
    # Counted in the package's labels.csv (588 + 117, 920 + 178, 56 + 313, 50 + 402): 1,074 mono and 1,550 poly, as in the paper.
    kinds = {("functional", "mono"): 705, ("functional", "poly"): 1098, ("defective", "mono"): 369}
    kinds |= {("defective", "poly"): 452}
    assert Counter((label, kind) for _, label, kind in known + held_back) == kinds
    for kind, number in Counter((label, kind) for _, label, kind in held_back).items():
        assert abs(number - kinds[kind] / 4) < 1


def test_the_real_weights_see_defects_where_random_ones_see_less(laid_out):
    """A logistic regression on features of 240 cells: the weights are in their right places, or they would be noise."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = laid_out[0]
    known = rows(folder / "job" / "labels.csv")[1:]
    chosen = [row for label in ("defective", "functional") for row in [r for r in known if r[1] == label][::5][:120]]
    pixels = np.stack(
        [np.asarray(Image.open(folder / "job" / "train" / f"{row[0]}.png").resize((96, 96))) for row in chosen]
    )
    x = ((torch.from_numpy(pixels).float() / 255 - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)
    y = np.array([row[1] == "defective" for row in chosen])
    areas = {}
    for weights in (str(folder / "tf_efficientnet_lite0.safetensors"), "none"):
        trunk = starting_weights.pretrained(solar.ARCH, weights, 0)[0].eval()
        with torch.inference_mode():
            features = torch.cat([trunk(part) for part in x.split(60)]).numpy()
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000))
        areas[weights] = roc_auc_score(y, cross_val_predict(fit, features, y, cv=4, method="decision_function"))
    real, random = areas.values()
    assert real > random + 0.03
