"""Losses by epoch: stages in order in bands of one width, heights that are logarithms, ticks, and every run's name."""

import re
import xml.etree.ElementTree as ET

import pytest

from eightfold.review import loss_curve, plots

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figure that was drawn last."""
    drawn = []
    made = plots.svg_text
    monkeypatch.setattr(plots, "svg_text", lambda fig: drawn.append(fig) or made(fig))
    return lambda: drawn[-1].axes[0]


def stage(name, fold, *losses):
    return {
        "name": name,
        "fold": fold,
        "history": [{"train_loss": train, "valid_loss": valid} for train, valid in losses],
    }


def texts(svg):
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter() if node.tag.endswith("}text")]


def test_losses_lie_in_the_band_of_their_stage_on_a_logarithmic_scale(axes):
    svg = loss_curve.course([stage("head", "0", (1.0, 0.5)), stage("all", "0", (0.5, 0.1), (0.1, 0.01))])
    lines = {(line.get_color(), tuple(line.get_xdata())): line.get_ydata().tolist() for line in axes().lines}
    assert lines == {
        (plots.BLUE, (0.5,)): [1.0],
        (plots.BLUE, (1.25, 1.75)): [0.5, 0.1],
        (plots.AMBER, (0.5,)): [0.5],
        (plots.AMBER, (1.25, 1.75)): [0.1, 0.01],
    }
    assert axes().get_yscale() == "log" and axes().get_xlim() == (0, 2)
    assert [text for text in texts(svg) if "epoch" in text or text in ("head", "all")] == [
        "head",
        "1 epoch",
        "all",
        "2 epochs",
    ]
    assert texts(svg).count("training") == texts(svg).count("validation") == 1 and "currentColor" in svg


def test_what_has_no_logarithm_is_left_out_and_folds_share_a_band(axes):
    loss_curve.course([stage("head", "0", (0.4, None), (0.0, None)), stage("head", "1", (0.4, None), (0.3, None))])
    assert [line.get_xdata().tolist() for line in axes().lines] == [[0.25], [0.25, 0.75]]
    assert loss_curve.course([stage("head", "0", (None, None))]) == loss_curve.course([]) == ""


def test_many_stages_with_long_and_hostile_names_are_drawn():
    svg = loss_curve.course([stage(name, "0", (0.5, 0.4)) for name in (EVIL, "$x^2$", "_hidden", *"abcdefgh")])
    assert "<script" not in svg and "stages and their epochs" in texts(svg) and "$x^2$" in texts(svg)


@pytest.mark.parametrize(
    "low, high", [(0.63, 0.89), (0.001, 100), (0.74, 0.79), (1.0, 2.0), (0.95, 1.05), (0.3, 0.3), (1e-6, 5)]
)
def test_a_loss_axis_has_several_labels_however_wide_it_is(axes, low, high):
    loss_curve.of_runs({"a": [(1, high), (2, low)]})
    bottom, top = axes().get_ylim()
    labels = [
        label.get_text()
        for label, at in zip(axes().get_yticklabels(), axes().get_yticks(), strict=True)
        if bottom <= at <= top
    ]
    assert 3 <= len(labels) <= 16 and len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"[\d.]+(e-\d+)?", label) and len(label) < 7 for label in labels)


def test_every_run_has_its_line_and_its_name_and_an_equal_line_shows_below_the_other(axes):
    curves = {name: [(1, 0.9), (2, 0.0 if name == "zero" else 0.5)] for name in ("_one", "two", EVIL, "zero")}
    svg = loss_curve.of_runs(curves)
    assert {"_one", "two", EVIL, "zero"} <= set(texts(svg)) and "<script" not in svg
    colours, widths = zip(*((line.get_color(), line.get_linewidth()) for line in axes().lines), strict=True)
    assert colours == loss_curve.COLOURS[:4] and widths[0] > widths[1] > widths[2] == widths[3]
    loss_curve.of_runs({str(number): [(1, 1 + number)] for number in range(9)})
    first, *_, last = axes().lines
    assert first.get_color() == last.get_color() and first.get_linestyle() != last.get_linestyle()
    low, high = axes().get_xlim()
    assert [place for place in axes().get_xticks() if low <= place <= high] == [1]  # an epoch, and no part of one
    assert loss_curve.of_runs({}) == ""
