"""A disk that is full, read-only or lies: what is there stays whole, what is damaged is named and never used."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline import Checkout, changed

from eightfold.core import files, tensors
from eightfold.core.devices import Device
from eightfold.core.files import UserError, checked, read_json
from eightfold.inputs import activations, dataset, pixels
from eightfold.net import heads
from eightfold.train.averaging import Average
from eightfold.train.records import Records
from eightfold.train.resume import read_state, write_state
from eightfold.train.stepping import Stepper

RUN = "results/tiny"
CPU = Device(torch.device("cpu"), torch.float32)


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    """A file system of ``size`` at ``folder``; a function that mounts it anew with other options."""
    folder.mkdir(parents=True, exist_ok=True)

    def mount(options: str) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("a file system of its own wants root and the right to mount")

    mount(f"size={size}")
    try:
        yield lambda options: mount(f"remount,{options}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def writes(folder: Path) -> dict:
    """Every way that the library writes a large file: name -> a call that writes two megabytes."""
    big = torch.arange(500_000, dtype=torch.float32)
    return {
        "text": lambda: files.write_text(folder / "text", "x" * 2_000_000),
        "tensors": lambda: tensors.save(folder / "tensors", {"a": big}, "me"),
        "pixels": lambda: pixels.pack(folder, [np.zeros((900, 900, 3), np.uint8)]),
    }


@pytest.mark.parametrize("kind", ["text", "tensors", "pixels"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, kind):
    with small_disk(tmp_path / "disk", "1m"):
        folder = tmp_path / "disk"
        name = {"pixels": "pixels.u8"}.get(kind, kind)
        (folder / name).write_text("old")
        with pytest.raises(OSError) as caught:
            writes(folder)[kind]()
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(folder / name)
        assert (folder / name).read_text() == "old" and [path.name for path in folder.iterdir()] == [name]


def test_a_limit_on_files_is_as_a_full_disk(tmp_path):
    """What a quota does, where nothing can be mounted: run in a process of its own."""
    program = (
        "import resource, sys, torch; from eightfold.core import tensors; from eightfold.core.runtime import job\n"
        "with job('a.log'):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "    tensors.save('big', {'a': torch.ones(100_000)}, 'me')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "larger than this system or user may write, and run the same command again" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.log.lock", "a.log"]


def test_what_a_killed_job_left_half_written_goes_with_the_next_write(tmp_path):
    (tmp_path / ".a.4711.tmp").write_text("half")
    (tmp_path / ".ab.4711.tmp").write_text("another's")
    files.write_text(tmp_path / "a", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ab.4711.tmp", "a"]


# ---- through Snakemake


def test_a_full_folder_for_temporary_files_is_replaced(tmp_path):
    """Snakemake's scheduler writes where TMPDIR says, and died with a traceback."""
    checkout = Checkout.new(tmp_path / "checkout")
    with small_disk(tmp_path / "disk", "64k"):
        with contextlib.suppress(OSError), open(tmp_path / "disk" / "fill", "wb") as file:
            for _ in range(1000):
                file.write(bytes(4096))
                file.flush()
        command = checkout.command("look", "explore")
        environment = {**checkout.environment, "TMPDIR": str(tmp_path / "disk")}
        done = subprocess.run(command, cwd=checkout.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr + done.stdout, done.stderr
    assert f"{tmp_path / 'disk'}: no room for temporary files" in done.stderr


def test_the_workflow_on_a_full_and_on_a_read_only_disk_goes_on_when_it_is_mended(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    checkout.configure(changed(run="other"))
    target = "results/other/fold0/plain/stage.json"
    with small_disk(checkout["results/other"], "3m") as remount:
        full = checkout.run(target, ok=False)
        assert "the disk is full: make room" in full and "Traceback" not in full
        assert not checkout[target].exists() and checkout.leftovers() == []
        remount("ro,size=3m")
        locked = checkout.run(target, ok=False)
        assert "Read-only file system" in locked
        remount("rw,size=64m")
        checkout.run(target)
        made = {name: read_json(c[f"{c_run}/fold0/plain/stage.json"])["digest"] for name, c, c_run in (
            ("first", finished, RUN), ("fixed", checkout, "results/other"))}  # fmt: skip
        assert made["first"] == made["fixed"]


def test_a_data_folder_that_vanished_is_named_before_anything_runs(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    shutil.move(checkout["pictures"], tmp_path / "elsewhere")
    output = checkout.run("submission", "--dry-run", ok=False)
    assert "pictures: no such folder; set data.root" in output and "Traceback" not in output
    shutil.move(tmp_path / "elsewhere", checkout["pictures"])
    assert checkout.planned() == {}


# ---- damage: every kind of it to every file that is kept


def truncated(path: Path, other: bytes) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def flipped(path: Path, other: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 16
    path.write_bytes(content)


def swapped(path: Path, other: bytes) -> None:
    path.write_bytes(other)


def emptied(path: Path, other: bytes) -> None:
    path.write_bytes(b"")


def _resume(folder: Path) -> Path:
    """The resume file of a training that was broken off."""
    net = heads.head(8, 2, 1)
    stepper = Stepper(net, CPU, False)
    stepper(torch.randn(6, 8), torch.tensor([0, 1, 0, 1, 0, 1]), [0.1], 3)
    path = folder / "resume.safetensors"
    records = Records([{"step": 0}], [{"epoch": 1}])
    write_state(path, net, stepper, Average("none", 0.0), records, 1, "identity")
    return path


def _read_resume(path: Path):
    net = heads.head(8, 2, 1)
    return read_state(path, net, Stepper(net, CPU, False), Average("none", 0.0), "identity")


def _all_pixels(path: Path):
    found = pixels.Pixels(path.parent)
    return [found[row] for row in range(len(found))]


def _by_identity(name: str, key: str = "digest"):
    return lambda path: checked(path, {"digest": read_json(path.with_name(name))[key]})


def _of_stage(path: Path):
    return tensors.load(path, read_json(path.with_name("stage.json"))["made_from"])


def _activations(path: Path):
    return activations.read(path, read_json(path.with_suffix(".json"))["made_from"])


# The file, another of its kind to put in its place, and how the rules read it.
KEPT = {
    "pixels": ("cache/pixels-*/pixels.u8", None, _all_pixels),
    "index of pixels": ("cache/pixels-*/index.npy", None, _all_pixels),
    "manifest": ("cache/data-*/manifest.csv", None, lambda path: dataset.read_manifest(path.parent)),
    "weights": ("cache/weights-*/trunk.safetensors", None, _by_identity("weights.json")),
    "activations": ("cache/activations-plain-*/*.safetensors", "cache/activations-augmented-*/*.safetensors", _activations),
    "activations of a tuned trunk": ("tiny/fold0/whole/activations/*.safetensors", None, _activations),
    "checkpoint": ("tiny/fold0/whole/checkpoint.safetensors", "tiny/fold0/plain/checkpoint.safetensors", _by_identity("stage.json")),
    "snapshots": (
        "tiny/fold0/whole/snapshots.safetensors",
        "tiny/fold0/plain/snapshots.safetensors",
        _by_identity("stage.json", "snapshots_digest"),
    ),
    "held-out logits": ("tiny/fold0/whole/valid.safetensors", "tiny/fold0/plain/valid.safetensors", _of_stage),
    "predictions": (
        "tiny/fold0/predictions/test.safetensors",
        "tiny/fold0/predictions/valid.safetensors",
        _by_identity("test.json"),
    ),
    "resume file": (None, None, _read_resume),
}  # fmt: skip


@pytest.mark.parametrize("damage", [truncated, flipped, swapped, emptied])
@pytest.mark.parametrize("name", KEPT)
def test_a_damaged_file_is_named_and_never_used(finished, tmp_path, name, damage):
    pattern, other, read = KEPT[name]
    if pattern is None:
        path, alien = _resume(tmp_path), tensors
        (tmp_path / "second").mkdir()
        tensors.save(tmp_path / "second" / "x", {"net.a": torch.ones(3)}, "another")
        alien = (tmp_path / "second" / "x").read_bytes()
    else:
        source = next(finished["results"].glob(pattern))
        shutil.copytree(
            source.parent, tmp_path / "kept", ignore=shutil.ignore_patterns("activations") if other else None
        )
        path = tmp_path / "kept" / source.name
        alien = next(finished["results"].glob(other)).read_bytes() if other else _another(path)
    read(path)  # as it is, it is good
    damage(path, alien)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(tmp_path) in str(caught.value) and "delete" in str(caught.value) and "run again" in str(caught.value)


def _another(path: Path) -> bytes:
    """A sound file of the same kind that tells of something else."""
    if path.suffix == ".csv":
        head, first, second, *rest = path.read_text().splitlines(keepends=True)
        return "".join([head, second, first, *rest]).encode()
    if path.name == "index.npy":
        index = np.load(path)
        made = path.with_name("other.npy")
        np.save(made, index[::-1])
        return made.read_bytes()
    if path.name == "pixels.u8":
        return path.read_bytes()[::-1]
    made = path.with_name("other.safetensors")
    tensors.save(made, {name: value + 1 for name, value in tensors.load(path).items()}, "another")
    return made.read_bytes()


def test_damaged_activations_are_refused_by_the_rule_and_rebuilt_when_deleted(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    stage = checkout[f"{RUN}/fold0/plain/stage.json"]
    before = stage.read_bytes()
    path = next(checkout["results/cache"].glob("activations-plain-*/*.safetensors"))
    times = path.stat()
    flipped(path, b"")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk does it: nobody wrote
    stage.unlink()
    output = checkout.run(f"{RUN}/fold0/plain/stage.json", ok=False)
    assert f"{path.name}: damaged" in output and "delete it and run again" in output and "Traceback" not in output
    path.unlink()
    path.with_suffix(".json").unlink()
    checkout.run(f"{RUN}/fold0/plain/stage.json")
    assert stage.read_bytes() == before


def test_an_image_swapped_after_the_manifest_was_made_is_refused(finished, tmp_path):
    checkout = finished.copy(tmp_path / "checkout")
    folder = next(checkout["results/cache"].glob("pixels-*"))
    for path in filter(Path.is_file, folder.iterdir()):
        path.unlink()
    victim = checkout["pictures/train/bars/bars_0.png"]
    content, times = bytearray(victim.read_bytes()), victim.stat()
    content[-20] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time: it is not looked at again
    output = checkout.run(str((folder / "pixels.json").relative_to(checkout.folder)), ok=False)
    assert "bars_0.png: has changed since the manifest was made" in output and "Traceback" not in output
