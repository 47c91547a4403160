"""Plots and sheets: valid SVG, safe text, the same bytes again."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from eightfold.core import wording
from eightfold.review import plots, sheets

HOSTILE = ["<script>alert(1)</script>", 'a "b" & c', "$x^2$", "bad \x00\x0b\ud800 text", "x" * 300, "", "犬"]


def texts(path):
    """All text of an SVG, which must parse."""
    return ["".join(node.itertext()) for node in ET.parse(path).getroot().iter() if node.tag.endswith("}text")]


def finder(**changes):
    lrs = np.geomspace(1e-5, 10, 100)
    losses = 0.7 - 0.5 / (1 + np.exp(-(np.log10(lrs) + 2.5) * 3)) + 0.02 * np.sin(np.arange(100))
    found = {"lr": 0.01, "rule": "minimum", "suggestions": {"minimum": 0.01, "steepest": 0.003, "valley": 0.005}}
    return {**found, "lrs": list(lrs), "losses": list(losses), "smoothed": list(losses), "message": "", **changes}


def run(epochs=3, batches=20):
    steps = np.arange(epochs * batches)
    table = {"step": steps, "epoch": steps // batches, "cycle": steps // batches, "lr": 0.01 + 0 * steps}
    history = {"epoch": range(epochs), "valid_loss": np.linspace(0.5, 0.2, epochs)}
    return pd.DataFrame({**table, "loss": 1 / (1 + steps)}), pd.DataFrame(history)


def every_plot(folder):
    batches, history = run()
    plots.lr_find_plot(folder / "find.svg", finder())
    plots.loss_plot(folder / "loss.svg", batches, history)
    plots.lr_plot(folder / "lr.svg", batches)
    plots.strength_plot(folder / "strength.svg", {"tried": [1e-3, 1e-2, 0.1], "log_loss": [0.5, 0.2, 0.3]})
    plots.confusion_plot(folder / "confusion.svg", np.eye(3, dtype=int) * 4, ["a", "b", "c"])
    return sorted(folder.glob("*.svg"))


def test_the_same_plot_is_the_same_bytes_in_the_readers_colour(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    for one, two in zip(every_plot(first), every_plot(second), strict=True):
        assert one.read_bytes() == two.read_bytes()
        text = one.read_text()
        assert "currentColor" in text and plots.INK not in text and "prefers-color-scheme" in text
        assert "#ffffff" not in text and len(text) < 60_000

    # ... with labelled axes
    assert {"loss (nats)", "mini-batches done"} <= set(texts(first / "loss.svg"))
    assert any("learning rate" in text for text in texts(first / "lr.svg"))
    assert any("log scale" in text for text in texts(first / "find.svg"))


def test_the_strength_that_is_marked_has_the_lowest_loss_and_none_tried_is_said(tmp_path):
    plots.strength_plot(tmp_path / "a.svg", {"tried": [1e-3, 1e-2, 0.1], "log_loss": [0.5, 0.2, 0.3]})
    assert "chosen: 0.01" in texts(tmp_path / "a.svg")
    plots.strength_plot(tmp_path / "b.svg", {"tried": [], "log_loss": []})
    assert "No image could be held out" in " ".join(texts(tmp_path / "b.svg"))


def test_finder_marks_the_chosen_rate_and_says_when_there_is_none(tmp_path):
    plots.lr_find_plot(tmp_path / "a.svg", finder())
    assert "chosen (minimum): 0.01" in texts(tmp_path / "a.svg")
    nothing = {"minimum": None, "steepest": None, "valley": None}
    plots.lr_find_plot(tmp_path / "b.svg", finder(lr=None, suggestions=nothing, message="no clear fall"))
    assert "no clear fall" in texts(tmp_path / "b.svg")


@pytest.mark.parametrize("count", [0, 1, 29])
def test_finder_of_few_or_broken_points(tmp_path, count):
    lrs = list(np.geomspace(1e-5, 1, count))
    for losses in ([0.5] * count, [None] * count):
        plots.lr_find_plot(tmp_path / "a.svg", finder(lrs=lrs, losses=losses, smoothed=losses))
        assert texts(tmp_path / "a.svg")


def test_loss_plot_without_validation_numbers_or_batches(tmp_path):
    batches, history = run()
    plots.loss_plot(tmp_path / "a.svg", batches, history.assign(valid_loss=""))
    assert any("No validation images" in text for text in texts(tmp_path / "a.svg"))
    for broken in (batches.iloc[:0], batches.assign(loss=float("nan"))):
        plots.loss_plot(tmp_path / "b.svg", broken, history)
        plots.lr_plot(tmp_path / "c.svg", broken)
        assert any("No finite training loss" in text for text in texts(tmp_path / "b.svg"))
    plots.loss_plot(tmp_path / "d.svg", batches.iloc[:1], history.iloc[:0])


def test_long_runs_stay_small_and_keep_their_spikes(tmp_path):
    batches, history = run(epochs=5, batches=5000)
    plots.loss_plot(tmp_path / "a.svg", batches, history)
    assert (tmp_path / "a.svg").stat().st_size < 150_000
    x, y = np.arange(50_000.0), np.zeros(50_000)
    y[31_234] = 9
    kept_x, kept_y = plots.thin(x, y)
    assert len(kept_x) <= plots.MOST_POINTS and kept_y[kept_x == 31_234] == 9 and (np.diff(kept_x) > 0).all()


def test_smooth_against_brute_force():
    values = np.array([1.0, np.nan, 4.0, 2.0, 8.0, 3.0])
    for width in (0.5, 1.0, 3.0, 50.0):
        found = plots.smooth(values, width)
        for i in range(len(values)):
            near = [j for j in range(len(values)) if abs(i - j) <= np.ceil(3 * width) and np.isfinite(values[j])]
            weights = [np.exp(-0.5 * ((i - j) / width) ** 2) for j in near]
            assert found[i] == pytest.approx(np.average(values[near], weights=weights))
    assert plots.smooth(np.zeros(0), 2.0).shape == (0,)


@pytest.mark.parametrize("count", [1, 2, 7, 120])
def test_confusion_plot_names_classes_as_they_are(tmp_path, count):
    classes = (HOSTILE + [f"c{i}" for i in range(count)])[:count]
    matrix = np.eye(count, dtype=int) * 5 + np.eye(count, k=1, dtype=int)
    matrix[-1] = 0  # a class that was never seen
    plots.confusion_plot(tmp_path / "a.svg", matrix, classes)
    found = texts(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size < 200_000
    if 1 < count <= 20:
        assert found.count("5") == count - 1 and HOSTILE[1] in found
    if count == 7:
        assert "$x^2$" in found
    plots.confusion_plot(tmp_path / "b.svg", matrix * 0, classes)
    assert any("No validation images" in text for text in texts(tmp_path / "b.svg"))


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.01, "0.01"), (0.0032, "0.0032"), (1e-4, "0.0001"), (1e-5, "1e-5"), (3.16e-6, "3.2e-6"), (10, "10")],
)
def test_rates_as_people_write_them(rate, text):
    assert wording.rate_text(rate) == text


def image(height, width):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_sheet_escapes_cuts_and_repeats_itself(tmp_path):
    shapes = [(100, 160), (400, 20), (8, 8), (1, 1), (0, 0), (300, 3000), (50, 50)]
    arguments = ([image(*shape) for shape in shapes], [f"{text}\nid" for text in HOSTILE])
    for name in ("a.svg", "b.svg"):
        sheets.sheet(tmp_path / name, *arguments, title=HOSTILE[0], colors=[sheets.RED] * 7)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert not [node for node in root.iter() if node.tag.endswith("}script")]
    assert len([node for node in root.iter() if node.tag.endswith("}image")]) == 6  # one has no pixels
    found = texts(tmp_path / "a.svg")
    assert "unreadable image" in found and max(map(len, found)) < 100 and 'a "b" & c' in found
    width, height = float(root.get("width")), float(root.get("height"))
    for node in root.iter():
        if node.tag.endswith(("}image", "}text", "}rect")):
            assert 0 <= float(node.get("x")) <= width and 0 <= float(node.get("y")) <= height


def test_a_sheet_of_nothing_says_so(tmp_path):
    sheets.sheet(tmp_path / "a.svg", [], [], title="wrong", empty="None: all right.")
    assert texts(tmp_path / "a.svg") == ["wrong", "None: all right."]
    with pytest.raises(ValueError, match="2 captions"):
        sheets.sheet(tmp_path / "b.svg", [image(4, 4)], ["a", "b"])
    assert not (tmp_path / "b.svg").exists()


def test_thumbnails_are_small_files():
    data, width, height = sheets.thumbnail(image(1000, 2000))
    assert (width, height) == (160, 80) and len(data) < 15_000


@pytest.mark.parametrize("letters", [1, 2, 3, 10, 11])
def test_ellipsis_never_exceeds(letters):
    for text in HOSTILE:
        assert len(sheets.ellipsis(text, letters)) <= letters
    assert sheets.ellipsis("abcdefgh", 5) in ("ab…gh",)


def test_the_rates_that_were_tried_are_drawn_with_the_choice(tmp_path):
    tried = [{"lr": lr, "loss": loss, "error": 0.02} for lr, loss in ((0.001, 0.4), (0.01, 0.2), (0.1, 1e6))]
    plots.lr_find_plot(tmp_path / "trials.svg", finder(rule="trials", lr=0.01, tried=tried))
    shown = texts(tmp_path / "trials.svg")
    assert any("judged on images held back" in text for text in shown) and "chosen (trials): 0.01" in shown
    nothing = finder(lr=7e-5, suggestions={"minimum": None}, tried=[], message="a tenth is taken")
    plots.lr_find_plot(tmp_path / "none.svg", nothing)
    shown = texts(tmp_path / "none.svg")
    assert "a tenth is taken" in shown and any(text.startswith("taken: 7") for text in shown)
    assert not any("chosen" in text for text in shown)
