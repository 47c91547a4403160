"""Snakemake's own report of a finished run: its categories and captions."""

import json
import re
import zipfile


def test_snakemakes_own_report_has_categories_and_captions(finished, tmp_path):
    finished.run("submission", "--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        page = archive.read("report/report.html").decode()
    told = json.loads(re.search(r"var categories\s*=\s*(\{.*?\});?\n", page)[1])
    assert set(told) == {"Data", "Training", "Review", "Result"}
    results = [path for category in told.values() for paths in category.values() for path in paths]
    assert {"results/tiny/submission.csv", "results/tiny/review/confusion.svg", "results/tiny/explore/classes.svg"} <= {
        *results
    }
    for words in ("Labelled images of each class", "Held-out images: true classes by predicted ones", "Grad-CAM"):
        assert words in page
