"""Results whose Snakemake has forgotten them, or that were copied without its memory: what agrees is kept, the rest is made again."""

import json
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64decode

import pytest
from pipeline import Checkout, changed, changed_stage, draw_image

DECIDES = ("rule", "params", "input", "input_checksums", "record_format_version", "incomplete", "endtime")
RUN = "results/tiny"


def remembered(checkout: Checkout) -> dict[str, dict]:
    """What decides in each of Snakemake's records, by the path of its file."""
    folder = checkout[".snakemake/metadata"]
    found = {}
    for place in (path for path in folder.rglob("*") if path.is_file()):
        name = "".join(part.lstrip("@") for part in place.relative_to(folder).parts)
        record = json.loads(place.read_text())
        found[urlsafe_b64decode(name).decode()] = {key: record[key] for key in DECIDES}
    return found


@pytest.fixture
def forgotten(finished, tmp_path) -> Checkout:
    """A copy of the finished run without Snakemake's memory."""
    copy = finished.copy(tmp_path / "checkout")
    shutil.rmtree(copy[".snakemake"])
    return copy


def test_what_is_restored_is_what_snakemake_itself_remembered(finished, forgotten):
    output = forgotten.run("submission", "--dry-run")
    assert "Nothing to be done" in output and "missing provenance" not in output
    kept = remembered(finished)
    assert f"Snakemake had no record of {len(kept)} files" in output
    assert remembered(forgotten) == kept and len(kept) > 50
    assert "had no record" not in forgotten.run("submission", "--dry-run")


CHANGES = {
    "rate": (
        changed_stage("again", lr=0.002),
        {"train": 1, "predict": 2},
        {"activations", "activations_tuned", "find_lr"},
    ),
    "TTA": (changed(tta={"views": 2}), {"predict": 2, "write_submission": 1}, {"train", "activations", "find_lr"}),
    "clip": (changed(submission={"clip": 0.01}), {"write_submission": 1}, {"train", "predict", "score"}),
}


@pytest.mark.parametrize(("config", "again", "kept"), CHANGES.values(), ids=CHANGES)
def test_a_changed_key_makes_again_what_depends_on_it_and_nothing_else(finished, forgotten, config, again, kept):
    forgotten.configure(config)
    planned = forgotten.planned("submission")
    assert {rule: planned.get(rule) for rule in again} == again and not kept & set(planned)
    other = finished.copy(forgotten.folder.with_name("remembering"))
    other.configure(config)
    assert other.planned("submission") == planned


def test_an_added_image_is_seen(forgotten):
    draw_image("bars", 50).save(forgotten["pictures/train/bars/new.png"])
    assert {"manifest", "pixels", "train", "write_submission"} <= set(forgotten.planned("submission"))


def test_a_copy_whose_times_are_in_any_order_makes_nothing_again(forgotten):
    paths = sorted((path for path in forgotten["results"].rglob("*") if path.is_file()), reverse=True)
    for number, path in enumerate(paths):
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    assert forgotten.planned("submission") == {}


@pytest.mark.parametrize("left", [0, 1, 40])
def test_records_that_a_power_cut_truncated_are_restored(finished, tmp_path, left):
    copy = finished.copy(tmp_path / "checkout")
    for place in (path for path in copy[".snakemake/metadata"].rglob("*") if path.is_file()):
        place.write_bytes(place.read_bytes()[:left])
    copy.configure(changed_stage("again", lr=0.002))
    planned = copy.planned("submission")
    assert planned["train"] == 1 and "activations" not in planned


def test_what_nothing_is_known_of_is_made_again_and_known_once_its_record_is_back(forgotten):
    records = forgotten[f"{RUN}/fold0/again/.made"]
    records.rename(forgotten["away"])
    output = forgotten.run("submission", "--dry-run")
    assert f"Nothing says what made 6 files ({RUN}/fold0/again/checkpoint.safetensors, ...)" in output
    for _ in range(2):  # it stays so
        planned = forgotten.planned("submission")
        assert planned["train"] == 1 and "activations_tuned" not in planned
    forgotten["away"].rename(records)
    assert forgotten.planned("submission") == {}


def test_a_result_of_inputs_that_are_others_now_is_made_again(forgotten):
    folds = forgotten[f"{RUN}/folds.json"]
    before = os.stat(folds)
    folds.write_text(
        folds.read_text().replace('"digest": "', '"digest": "0')
    )  # as a run left it that ended before training
    os.utime(folds, ns=(before.st_atime_ns, before.st_mtime_ns))
    output = forgotten.run("submission", "--dry-run")
    assert f"made of another {RUN}/folds.json" in output
    assert forgotten.planned("submission")["train"] == 4


def test_results_that_were_put_in_the_place_of_others_count_by_their_own_record(finished, tmp_path):
    """As when those of a cluster are copied over those of a first try, whose memory is here."""
    copy = finished.copy(tmp_path / "checkout")
    record = copy[f"{RUN}/.made/submission.csv.json"]
    described = json.loads(record.read_text())
    record.write_text(json.dumps({**described, "params": ["{'submission': 'another'}"]}))
    assert copy.planned("submission") == {}  # it is the file that Snakemake saw
    os.utime(copy[f"{RUN}/submission.csv"])
    assert copy.planned("submission")["write_submission"] == 1


def test_touched_results_are_kept(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    for path in copy["results"].rglob("*.*"):
        os.utime(path)
    assert copy.planned("submission") == {}


def test_what_a_killed_job_left_is_left_to_snakemake(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    copy.configure(changed(submission={"clip": 0.01}))
    process = copy.start("submission")
    try:
        while not list(copy[".snakemake/incomplete"].glob("*")) and process.poll() is None:
            pass
    finally:
        process.kill()
        process.wait()
    assert set(copy.planned("submission")) == {"write_submission", "timings", "report"}


def test_the_doctor_says_that_results_are_not_those_of_the_config(forgotten):
    def ask() -> subprocess.CompletedProcess:
        command = [sys.executable, "scripts/doctor.py"]
        return subprocess.run(command, cwd=forgotten.folder, capture_output=True, text=True)

    assert ask().stdout.endswith("All is well.\n")
    forgotten.configure(changed(tta={"views": 2}))
    done = ask()
    assert (
        done.returncode == 1
        and "not what this config, code and data make" in done.stdout
        and "2 predict" in done.stdout
    )
    forgotten.run("submission")
    assert ask().stdout.endswith("All is well.\n")
    assert "All is well." in forgotten.run("doctor")


# ---- the data, by content


def test_an_image_of_the_same_size_but_other_content_is_seen_and_a_touched_one_is_not(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    for path in copy["pictures"].rglob("*.*"):
        os.utime(path)
    assert copy.planned("submission") == {}
    image = copy["pictures/train/bars/bars_0.png"]
    before = image.read_bytes()
    image.write_bytes(before[:-20] + bytes([before[-20] ^ 1]) + before[-19:])
    output = copy.run("submission", "--dry-run")
    assert "pictures/train/bars/bars_0.png: not the content that the manifest was made of" in output
    assert {"manifest", "train", "write_submission"} <= set(copy.planned("submission"))
    image.write_bytes(before)
    assert copy.planned("submission") == {}


def test_an_edited_image_is_looked_at_anew_and_then_all_is_settled(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    image = copy["pictures/test/t0.png"]
    info = image.read_bytes()
    image.write_bytes(info[:-4] + b"\0\0\0\0")  # the checksum of the last chunk, which holds nothing
    copy.run("look")
    assert "manifest" not in copy.planned("submission") and copy.planned("look") == {}


# ---- parts of the work


def test_another_number_of_parts_makes_nothing_again_and_parts_that_made_it_are_not_asked_for(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    copy.configure(changed(shards=2))
    assert set(copy.planned("submission")) <= {"timings", "report"}  # which show the config
    copy.configure(changed(shards=2, tta={"views": 2}))
    planned = copy.planned("submission")
    assert (
        planned["predict_part"] == 4
        and planned["predict"] == 2
        and not {"pixels", "activations", "train"} & set(planned)
    )
    copy.run("submission")
    for number in (1, 3):
        copy.configure(changed(shards=number, tta={"views": 2}))
        assert set(copy.planned("submission")) <= {"timings", "report"}
    copy.configure(changed(shards=3))
    planned = copy.planned("submission")
    assert planned["predict_part"] == 6 and not {"pixels", "pixels_part", "activations_part", "train"} & set(planned)


def test_an_added_image_is_seen_by_all_parts_of_a_run_that_one_job_made(forgotten):
    forgotten.configure(changed(shards=2))
    assert set(forgotten.planned("submission")) <= {"timings", "report"}
    draw_image("bars", 50).save(forgotten["pictures/train/bars/new.png"])
    planned = forgotten.planned("submission")
    assert planned["pixels_part"] == 2 and planned["activations_part"] == 4 and planned["train"] == 4


def test_notes_beside_the_images_and_the_root_written_otherwise_make_nothing_again(finished, tmp_path):
    copy = finished.copy(tmp_path / "checkout")
    copy["pictures/notes.txt"].write_text("a word to myself")
    assert copy.planned("submission") == {}
    copy.configure(changed(data={"root": str(copy["pictures"])}))
    assert set(copy.planned("submission")) <= {"report"}  # which shows the config
