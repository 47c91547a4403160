"""Snakemake's own report of a finished run: its categories and captions."""

import json
import re
import subprocess
import sys
import zipfile


def test_snakemakes_own_report_has_categories_and_captions(finished, tmp_path):
    # Without --cores, as Snakemake's documentation has it.
    words = [sys.executable, "-m", "snakemake", "--report", str(tmp_path / "report.zip")]
    subprocess.run(words, cwd=finished.folder, env=finished.environment, check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        page = archive.read("report/report.html").decode()
    categories = json.loads(re.search(r"var categories\s*=\s*(\{.*?\});?\n", page)[1])
    assert set(categories) == {"Data", "Training", "Review", "Result"}
    results = [path for category in categories.values() for paths in category.values() for path in paths]
    assert {"results/tiny/submission.csv", "results/tiny/report.html", "results/tiny/metrics.json"} <= {*results}
    assert {"results/tiny/review/confusion.svg", "results/tiny/explore/classes.svg"} <= {*results}
    for words in ("Labelled images of each class", "Held-out images: true classes by predicted ones", "Grad-CAM"):
        assert words in page
