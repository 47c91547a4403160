"""The list of a run's jobs, against the jobs that Snakemake plans."""

import re
from collections import Counter

import pytest
from pipeline import CONFIG, ROOT, Checkout, changed

from eightfold.config.jobs import jobs_of, jobs_of_all_targets
from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve

pytestmark = pytest.mark.slow
LINEAR = {"name": "convex", "size": 48, "train": "linear"}
CONFIGS = {
    "as it is": CONFIG,
    "a linear stage, another size": changed(recipe=[LINEAR, *CONFIG["recipe"]]),
    "folds, and all images": changed(split={"use": [0, 2], "submit": "both"}),
    "all images": changed(split={"use": "all"}),
    "in parts": changed(shards=2),
    "only linear": changed(recipe=[LINEAR]),
    "tracked": changed(tracking=["tensorboard", "mlflow"]),
    "no finder": changed(recipe=[{**stage, "lr": 0.01} for stage in CONFIG["recipe"]]),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_jobs_are_those_that_snakemake_plans(config, tmp_path, monkeypatch):
    checkout = Checkout.new(tmp_path)
    checkout.configure(config)
    planned = Counter(checkout.planned("submission"))
    monkeypatch.chdir(tmp_path)
    jobs = jobs_of(Plan(resolve(config)))
    assert Counter(job.rule for job in jobs) == planned - Counter(["timings", "report"])
    assert len({(job.rule, *job.wildcards.values()) for job in jobs}) == len(jobs)


def test_without_test_images_there_is_no_submission_to_write(tmp_path, monkeypatch):
    checkout = Checkout.new(tmp_path, test=0)
    config = changed(data={"sample_submission": None})
    checkout.configure(config)
    planned = Counter(checkout.planned("evaluate"))
    monkeypatch.chdir(tmp_path)
    assert Counter(job.rule for job in jobs_of(Plan(resolve(config)))) == planned - Counter(["timings", "report"])


def test_the_jobs_of_all_targets_are_of_every_rule_that_makes_a_file():
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    blocks = re.findall(r"^(?:use rule \w+ as|rule) (\w+)\b(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    makers = {name for name, block in blocks if "    output:" in block}
    found = {job.rule for config in CONFIGS.values() for job in jobs_of_all_targets(Plan(resolve(config)))}
    elsewhere = {"demo", "kaggle_data", "solar_cells"}  # jobs of other data
    assert found | elsewhere == makers and len(makers) > 35
