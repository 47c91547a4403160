"""The doctor: says that all is well where it is, and names what is not, with what to do."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pipeline import ROOT, changed

from eightfold.config.plan import Plan
from eightfold.config.resolve import resolve
from eightfold.core import software
from eightfold.core.files import write_json
from eightfold.upkeep import disk_space, doctor


def examined(monkeypatch, folder: Path, config: dict) -> dict[str, doctor.Finding]:
    monkeypatch.chdir(folder)
    findings = list(doctor.examine(Plan(resolve(config))))
    return {finding.what: finding for finding in findings}


@pytest.fixture
def copy(finished, tmp_path):
    return finished.copy(tmp_path / "checkout")


def asked(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "doctor.py"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_each_finding_is_written_as_it_comes_and_what_is_to_be_fixed_is_counted():
    written = []

    def findings():
        yield doctor.Finding("disk", doctor.BAD, "full", "make room")
        assert len(written) == 1  # before the next, which may take long
        yield doctor.Finding("data", doctor.NOTE, "not counted yet")

    assert not doctor.report(findings(), written.append)
    assert written == [
        " BAD  disk      full\n                -> make room",
        "note  data      not counted yet",
        "\n1 to fix",
    ]
    assert doctor.report([], written.append) and written[-1] == "\nAll is well."


def test_a_sound_run_is_well_and_every_file_of_it_was_looked_at(finished):
    done = asked(finished.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All is well.\n") and " BAD " not in done.stdout
    assert int(re.search(r"(\d+) of earlier runs looked through, all whole", done.stdout)[1]) >= 15


def test_each_damage_is_named_with_its_remedy_and_the_status_is_not_0(copy):
    pixels = next(copy["results/cache"].glob("pixels-*/pixels.u8"))
    with open(pixels, "r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3" * 9)
    checkpoint = copy["results/tiny/fold0/whole/checkpoint.safetensors"]
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5])
    next(copy["results/cache"].glob("activations-plain-*/*.safetensors")).unlink()
    done = asked(copy.folder)
    assert done.returncode == 1 and done.stdout.endswith("4 to fix\n") and "Traceback" not in done.stderr
    for path in (pixels.parent, checkpoint):
        assert f"-> delete {path.relative_to(copy.folder)} and run again" in done.stdout
    assert re.search(r"views_0-0\.safetensors.*No such file", done.stdout)


def test_what_a_run_lacks_is_said(monkeypatch, copy):
    config = changed(device={"kind": "mps"}, model={"weights": "nowhere.pth"})
    config["data"] = {"source": "csv", "root": "pictures", "labels": "none.csv"}
    found = examined(monkeypatch, copy.folder, config)
    assert found["device"].state == doctor.BAD or sys.platform == "darwin"
    assert found["weights"].message == "nowhere.pth: no such file" and found["weights"].state == doctor.BAD
    assert found["data"].state == doctor.BAD and "data.labels (none.csv)" in found["data"].message
    shutil.rmtree(copy["pictures"])
    assert "no such folder" in examined(monkeypatch, copy.folder, changed())["data"].message


def test_missing_packages_room_and_a_lock_are_seen(monkeypatch, copy):
    monkeypatch.setattr(doctor, "pins", lambda: {"torch": "0.1", "no-such-package": "1.0"})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    (copy[".snakemake/locks"]).mkdir(exist_ok=True)
    copy[".snakemake/locks/0.output.lock"].write_text("x")
    monkeypatch.chdir(copy.folder)
    found = [(f.what, f.state, f.message + f.remedy) for f in doctor.examine(Plan(resolve(changed())))]
    assert any(what == "packages" and state == doctor.BAD and "no-such-package" in told for what, state, told in found)
    assert any(what == "packages" and state == doctor.NOTE and "for 0.1" in told for what, state, told in found)
    assert any(what == "disk" and state == doctor.BAD and "make room" in told for what, state, told in found)
    assert any(what == "results" and state == doctor.NOTE and "make unlock" in told for what, state, told in found)


def test_what_it_says_a_run_needs_is_about_what_one_takes(monkeypatch, finished):
    from eightfold.net import trunks

    monkeypatch.chdir(finished.folder)
    plan = Plan(resolve(changed()))
    trunk = trunks.trunk_outline("shufflenet_v2_x0_5")
    weights = sum(4 * tensor.numel() for tensor in trunk.state_dict().values())
    wanted = disk_space.needed(plan, disk_space.images_of(plan), trunk.width, weights)
    wanted = {large.path: large.bytes for large in wanted}
    wanted.pop(f"{plan.run}/.resume")  # gone at the end
    large = [path for path in Path("results").rglob("*") if path.suffix in (".safetensors", ".u8")]
    taken = sum(path.stat().st_size for path in large)
    assert 0.8 * taken < sum(wanted.values()) < 1.3 * taken


def test_the_rule_and_a_wrong_config_say_the_same(copy):
    output = copy.run("doctor")
    assert "All is well." in output
    copy["bad.yaml"].write_text("rnu: x\n")
    done = asked(copy.folder, "bad.yaml")
    assert done.returncode == 1 and "did you mean run" in done.stderr and "Traceback" not in done.stderr


def test_images_in_an_archive_are_counted_and_arrays_in_one_file_are_no_lack(monkeypatch, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    with zipfile.ZipFile(root / "train.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.jpg", b"x")
    (root / "labels.csv").write_text("id,label\n")
    model = {"arch": "resnet18", "weights": "none"}
    data = {"source": "csv", "root": str(root), "labels": "labels.csv", "train": "train.zip"}
    found = examined(monkeypatch, tmp_path, {"data": data, "model": model})
    assert (
        found["data"].state == doctor.OK
        and "3 images" in found["data"].message
        and "the run takes" in found["disk"].message
    )
    (root / "train.zip").unlink()
    (root / "train.json").write_text("[]")
    data |= {"labels": "train.json", "train": "train.json", "bands": ["band"]}
    found = examined(monkeypatch, tmp_path, {"data": data, "model": model})
    assert found["data"].state == doctor.OK and "not counted yet" in found["data"].message
    assert found["disk"].state == doctor.NOTE


def test_results_of_other_versions_and_weights_of_another_name_are_noted(monkeypatch, tmp_path):
    config = {"run": "a", "model": {"arch": "resnet18", "weights": "DEFAULT"}}
    monkeypatch.chdir(tmp_path)
    plan, here = Plan(resolve(config)), software.versions()
    weights = {"arch": "resnet18", "weights": "DEFAULT", "published": "resnet18-00000000.pth", "versions": here}
    write_json(f"{plan.weights_folder}/weights.json", weights)
    write_json("results/a/fold0/first/stage.json", {"versions": {**here, "torch": "1.0"}})
    write_json("results/a/fold0/second/stage.json", {"versions": here})
    versions, name = doctor._versions(plan)
    assert versions.state == name.state == doctor.NOTE
    assert f"torch (here is {here['torch']}) 1.0: results/a/fold0/first/stage.json; " in versions.message
    assert "resnet18-00000000.pth" in name.message and "resnet18-f37072fd.pth" in name.message
    write_json("results/a/fold0/first/stage.json", {"versions": here})
    write_json(f"{plan.weights_folder}/weights.json", weights | {"published": "resnet18-f37072fd.pth"})
    assert list(doctor._versions(plan)) == []
