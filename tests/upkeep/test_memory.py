"""The records of jobs, and what Snakemake's memory is made to say by them, on files without a workflow."""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.persistence.file import FilePersistence

from eightfold.core import made
from eightfold.core.runtime import job
from eightfold.upkeep import memory


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def finish(output: str, inputs: list[str], settings: object, ok: bool = True) -> None:
    """Do a job as a script does."""
    given = SimpleNamespace(
        output=[output], input=inputs, params=[settings, "code"], log=[f"{output}.log"], rule="a_rule"
    )
    with job(given):
        Path(output).write_text("result")
        if not ok:
            raise RuntimeError("as it happens")


def test_a_record_holds_what_made_the_outputs_and_equal_jobs_write_equal_bytes():
    Path("small").write_bytes(b"abc")
    Path("large").write_bytes(b"0" * (made.LARGEST + 1))
    finish("a/out.csv", ["small", "large", "gone"], {"lr": 0.1})
    record = json.loads(Path("a/.made/out.csv.json").read_text())
    assert record["params"] == ["'code'", "{'lr': 0.1}"] and record["input"] == ["gone", "large", "small"]
    assert record["input_checksums"] == {"small": f"sha256:{hashlib.sha256(b'abc').hexdigest()}"}
    before = made.record_path("a/out.csv").read_bytes()
    finish("a/out.csv", ["small", "large", "gone"], {"lr": 0.1})
    assert made.record_path("a/out.csv").read_bytes() == before


def test_a_job_that_fails_leaves_no_record_not_even_the_one_before():
    finish("a/out.csv", [], {"lr": 0.1})
    with pytest.raises(SystemExit):
        finish("a/out.csv", [], {"lr": 0.2}, ok=False)
    assert not made.record_path("a/out.csv").exists()


def test_an_input_counts_as_the_job_found_it():
    Path("in").write_text("before")
    given = SimpleNamespace(output=["out"], input=["in"], params=[], log=["log"])
    with job(given):
        Path("in").write_text("while it ran")
    record = json.loads(made.record_path("out").read_text())
    assert record["input_checksums"]["in"] == f"sha256:{hashlib.sha256(b'before').hexdigest()}"


def test_what_is_written_is_where_snakemake_looks_for_it_however_long_the_path():
    for output in ("short", "x" * 120 + "/" + "y" * 120):
        finish(output, [], {"lr": 0.1})
        assert memory.recall([[output]], 6).restored == [output]
        kept = FilePersistence()._read_record(output)
        assert kept.params == ["'code'", "{'lr': 0.1}"] and kept.record_format_version == 6
        assert kept.endtime == os.stat(output).st_mtime


def test_what_does_not_exist_is_not_remembered_and_nothing_is_written_for_it():
    assert memory.recall([["nowhere"]], 6) == ([], [], {}) and memory.summary(memory.recall([["nowhere"]], 6)) == ""
    assert not Path(".snakemake").exists()
