"""The comparison of finished runs: what differs, what that did, and the page, inert and whole."""

import numpy as np
import pandas as pd
import pytest
from test_report import Page

from eightfold.core.files import write_json, write_table
from eightfold.review import compare


def made_run(folder, accuracy, images=400, **config):
    """A finished run as `read_run` gives it, with the files that it was read from."""
    final = {"accuracy": accuracy, "log_loss": 0.5, "images": images}
    stages = [{"stage": "head", "fold": "0"}]
    write_json(folder / "metrics.json", {"final": final, "stages": stages})
    stage = {"name": "head", "size": 64}
    write_json(folder / "config.json", {"config": {"run": folder.name, "seed": 0, "recipe": [stage], **config}})
    write_table(folder / "timings.csv", pd.DataFrame({"job": ["a", "b"], "seconds": [60, 3], "peak_mb": [1, 2]}))
    write_table(folder / "fold0/head/history.csv", pd.DataFrame({"epoch": [0, 1], "valid_loss": [0.9, accuracy]}))
    return compare.read_run(folder)


def test_a_comparison_shows_what_differs_and_what_it_did(tmp_path):
    runs = [
        made_run(tmp_path / "a", 0.90),
        made_run(tmp_path / "b", 0.96, tta={"views": 4}),
        made_run(tmp_path / "c", 0.91, seed=1),
    ]
    table = compare.table(runs)
    assert list(table["run"]) == ["a", "b", "c"] and list(table.columns[-2:]) == ["seed", "tta.views"]
    assert table["accuracy_se"][0] == pytest.approx((0.9 * 0.1 / 400) ** 0.5) and table["seconds"][0] == 63
    first, second, third = compare.changes(runs)
    assert first["settings"] == [("tta.views", "–", "4")] and first["effects"][0]["clear"]
    assert second["settings"] == [("seed", "0", "1")] and not second["effects"][0]["clear"]
    assert len(third["settings"]) == 2
    page = compare.page([*runs, {**runs[0], "run": "<script>alert(1)</script>"}])
    assert "<script" not in page and "+6.00" in page
    found = Page(page)
    assert found.open == []
    text = " ".join(found.text.split())
    assert "accuracy +6.00 % ± 1.79 % clear" in text and "accuracy +1.00 % ± 2.07 % within the error" in text


def test_a_comparison_shows_the_baseline_of_each_run(tmp_path):
    runs = [made_run(tmp_path / name, 0.9) for name in ("a", "b")]
    told = {"final": {"accuracy": 0.9, "log_loss": 0.5, "images": 400}, "stages": []}
    write_json(tmp_path / "a/metrics.json", told | {"baseline": {"class": "bees", "accuracy": 0.54, "images": 400}})
    runs[0] = compare.read_run(tmp_path / "a")
    table = compare.table(runs)
    assert table["accuracy_baseline"][0] == 0.54 and np.isnan(table["accuracy_baseline"][1])
    assert "log_loss_baseline" not in table
    page = compare.page(runs)
    assert page.count("baseline 54.00\u00a0%") == 1 and "Baseline: the class shares" in page
    assert "Baseline" not in compare.page(runs[1:])


def test_runs_that_differ_in_their_seed_alone_are_taken_together(tmp_path):
    made = {"a0": (0.80, 0, 4), "a1": (0.86, 1, 4), "b0": (0.9, 0, 0), "b1": (0.94, 1, 0), "c": (0.5, 0, 2)}
    runs = [made_run(tmp_path / n, value, seed=seed, tta={"views": views}) for n, (value, seed, views) in made.items()]
    groups = compare.over_seeds(runs)
    assert [(group["runs"], group["settings"]) for group in groups] == [
        (["a0", "a1"], {"tta.views": "4"}),
        (["b0", "b1"], {"tta.views": "0"}),
    ]
    mean, error = groups[0]["figures"]["accuracy"]
    assert np.isclose(mean, 0.83) and np.isclose(error, np.std([0.8, 0.86], ddof=1) / np.sqrt(2))
    page = compare.page(runs)
    assert "83.00\u00a0%<small>± 3.00\u00a0%" in page and "Over seeds" not in compare.page(runs[::2])
