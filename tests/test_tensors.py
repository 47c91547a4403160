"""Tensor files: whole, told apart by identity, the same bytes for the same content."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eightfold import tensors
from eightfold.files import UserError, checked, file_digest, write_json

CONTENT = {
    "b": torch.arange(6).reshape(2, 3),
    "a.x": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "a.y": torch.ones(1),
}
SCRIPTS = str(Path(tensors.__file__).parents[1])


@pytest.fixture
def path(tmp_path):
    tensors.save(tmp_path / "t.safetensors", CONTENT, "me", step=3, rows=[{"loss": 0.5}])
    return tmp_path / "t.safetensors"


def test_what_is_saved_is_read(path):
    found = tensors.load(path, "me")
    assert set(found) == set(CONTENT) and all(torch.equal(found[name], CONTENT[name]) for name in CONTENT)
    assert {name: value.dtype for name, value in found.items()} == {name: v.dtype for name, v in CONTENT.items()}
    assert set(tensors.load(path, prefix="a.")) == {"x", "y"}
    assert tensors.notes(path) == {"identity": "me", "step": 3, "rows": [{"loss": 0.5}]}
    assert [entry.name for entry in path.parent.iterdir()] == ["t.safetensors"]


def test_a_strange_layout_in_memory_is_saved_as_its_values(tmp_path):
    strange = {
        "t": torch.arange(6.0).reshape(2, 3).T,
        "last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    strange["part"] = torch.arange(10)[::3]
    tensors.save(tmp_path / "t", strange, "me")
    assert all(torch.equal(value, strange[name]) for name, value in tensors.load(tmp_path / "t").items())


def test_another_identity_is_refused(path):
    with pytest.raises(
        UserError, match=r"t\.safetensors: made from other inputs or settings \(it says me, wanted you\)"
    ):
        tensors.load(path, "you")
    save_file({"b": torch.ones(1)}, path)  # a file of someone else
    assert tensors.notes(path) == {} and set(tensors.load(path)) == {"b"}
    with pytest.raises(UserError, match="it says None"):
        tensors.load(path, "me")


def test_a_flipped_bit_is_seen_by_the_digest_that_tells_of_the_file(path):
    write_json(path.with_suffix(".json"), {"digest": file_digest(path)})
    told = {"digest": file_digest(path)}
    assert checked(path, told) == path
    content = bytearray(path.read_bytes())
    for position in (0, 9, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"t\.safetensors: damaged"):
            checked(path, told)


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 100, pickle.dumps({"a": 1})])
def test_what_is_no_safetensors_file_is_named(path, content):
    path.write_bytes(content)
    for read in (tensors.load, tensors.notes):
        with pytest.raises(
            UserError, match=r"t\.safetensors: not a readable safetensors file .*delete it and run again"
        ):
            read(path)


def test_a_file_cut_short_or_missing_is_named(path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"t\.safetensors: not a readable"):
        tensors.load(path)
    with pytest.raises(UserError, match=r"none\.safetensors: not a readable"):
        tensors.load(path.with_name("none.safetensors"))


def test_bytes_are_the_same_in_every_process(tmp_path):
    """Sets and dicts are ordered by hashes that differ from process to process."""
    program = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from eightfold import tensors; "
        "names = sorted({f'layer{i}' for i in range(20)}); "
        "tensors.save(sys.argv[2], {n: torch.ones(3) for n in names}, 'me', z=1, a=[1, 2], step=3)"
    )
    for number in (1, 2):
        command = [sys.executable, "-c", program, SCRIPTS, str(tmp_path / f"{number}")]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": str(number), "PATH": ""})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_save_that_fails_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        tensors.save(path, CONTENT, "me", note=object())
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
