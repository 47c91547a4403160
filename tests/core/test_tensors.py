"""Tensor files: whole, told apart by identity, the same bytes for the same content."""

import gc
import hashlib
import json
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eightfold.core import tensors
from eightfold.core.files import UserError, checked, file_digest, write_json

CONTENT = {
    "b": torch.arange(6).reshape(2, 3),
    "a.x": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "a.y": torch.ones(1),
}
SCRIPTS = str(Path(tensors.__file__).parents[2])


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


DTYPES = st.sampled_from(list(tensors.TYPES))
SHAPES = st.lists(st.integers(0, 4), max_size=3)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.tuples(DTYPES, SHAPES), max_size=6))
def test_the_library_reads_what_was_written(tmp_path_factory, content):
    """Any name, number format and shape: the format is the one of safetensors."""
    made = {name: torch.randint(0, 2, shape).to(dtype) for name, (dtype, shape) in content.items() if name[:2] != "__"}
    path = tmp_path_factory.mktemp("tensors") / "t.safetensors"
    tensors.save(path, made, "me")
    for found in (load_file(path), tensors.load(path, "me")):
        assert {name: (t.dtype, t.shape) for name, t in found.items()} == {
            n: (t.dtype, t.shape) for n, t in made.items()
        }
        assert all(torch.equal(found[name], made[name]) for name in made)
        assert all(tensor.data_ptr() % tensor.dtype.itemsize == 0 for tensor in found.values())


def test_the_digest_is_of_the_notes_and_of_the_tensors_by_name(path):
    """As it always was: runs that an older version made are still read, by `ensemble.runs` for one."""
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["eightfold"])
    digest = told.pop("content")
    parts = [json.dumps(told, sort_keys=True).encode()]
    for name in ("a.x", "a.y", "b"):
        tensor = CONTENT[name]
        parts += [
            f"{name} {tensor.dtype} {list(tensor.shape)}".encode(),
            bytes(tensor.flatten().view(torch.uint8).tolist()),
        ]
    assert digest == hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def pieces(cuts, values):
    return tensors.Pieces(values.dtype, tuple(values.shape), (piece.clone() for piece in values.tensor_split(cuts)))


@given(st.lists(st.integers(0, 9), max_size=4).map(sorted))
def test_a_tensor_in_pieces_is_saved_as_the_whole_one(tmp_path_factory, cuts):
    folder, values, other = tmp_path_factory.mktemp("tensors"), torch.rand(9, 3), torch.arange(4)
    tensors.save(folder / "whole", {"v": values, "o": other}, "me", step=1)
    tensors.save(folder / "pieces", {"v": pieces(cuts, values), "o": other}, "me", step=1)
    assert (folder / "pieces").read_bytes() == (folder / "whole").read_bytes()


def test_one_piece_is_in_memory_at_a_time(tmp_path):
    made = []

    def some():
        for number in range(20):
            gc.collect()
            assert sum(piece() is not None for piece in made) <= 1
            piece = torch.full((10, 3), float(number))
            made.append(weakref.ref(piece))
            yield piece
            del piece

    tensors.save(tmp_path / "t", {"v": tensors.Pieces(torch.float32, (200, 3), some())}, "me")
    assert torch.equal(
        tensors.load(tmp_path / "t", "me")["v"], torch.arange(20.0).repeat_interleave(10)[:, None].expand(200, 3)
    )


@pytest.mark.parametrize("wrong", [torch.rand(8, 3), torch.rand(10, 3), torch.rand(3, 9), torch.rand(9, 3).double()])
def test_pieces_that_are_not_what_they_claim_leave_the_old_file(path, wrong):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="v: "):
        tensors.save(path, {"v": tensors.Pieces(torch.float32, (9, 3), [wrong])}, "me")
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


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
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from eightfold.core import tensors; "
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
