"""The weights that a trunk starts from: random, of a file, downloaded once."""

import functools
import hashlib
import http.server
import pickle
import threading
import urllib.error

import pytest
import torch
import torchvision
from classifiers import ARCH, classifier
from safetensors.torch import save_file

from eightfold.core.files import UserError
from eightfold.net import starting_weights


@functools.cache
def state():
    return {name: value.clone() for name, value in classifier(ARCH, seed=9).state_dict().items()}


def trunk_equals(trunk, model_state):
    """Whether the trunk holds the convolutions of a squeezenet's state dict."""
    wanted = [value for name, value in model_state.items() if name.startswith("features")]
    found = list(trunk.state_dict().values())
    return len(wanted) == len(found) and all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_random_weights_are_of_the_seed_and_leave_the_global_numbers_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    trunks = [starting_weights.pretrained(ARCH, "none", seed)[0].state_dict() for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(trunks[0][name], trunks[1][name]) for name in trunks[0])
    assert any(not torch.equal(trunks[0][name], trunks[2][name]) for name in trunks[0])


@pytest.mark.parametrize(
    "wrapper", ["plain", "state_dict", "model", "module.", "five classes", "no classifier", "safetensors"]
)
def test_weights_from_a_file(tmp_path, wrapper):
    content, path = dict(state()), tmp_path / "weights.pth"
    if wrapper == "module.":
        content = {"state_dict": {f"module.{name}": value for name, value in content.items()}}
    elif wrapper == "five classes":
        content |= {"classifier.1.weight": torch.zeros(5, 512, 1, 1), "classifier.1.bias": torch.zeros(5)}
    elif wrapper == "no classifier":
        content = {name: value for name, value in content.items() if name.startswith("features")}
    elif wrapper in ("state_dict", "model"):
        content = {wrapper: content, "epoch": 3}
    if wrapper == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(content, path)
    else:
        torch.save(content, path)
    trunk, mean, std = starting_weights.pretrained(ARCH, str(path), seed=0)
    assert trunk_equals(trunk, state())
    assert (mean, std) == (starting_weights.IMAGENET_MEAN, starting_weights.IMAGENET_STD)


def test_weights_of_another_architecture_are_refused_by_their_keys(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(state(), path)
    with pytest.raises(UserError) as refusal:
        starting_weights.pretrained("resnet18", str(path), seed=0)
    for part in (str(path), "does not fit model.arch resnet18", "bn1.bias: not in the file", "and "):
        assert part in str(refusal.value)
    torch.save(state() | {"features.0.weight": torch.zeros(64, 3, 5, 5)}, path)
    with pytest.raises(
        UserError, match=r"features\.0\.weight: \(64, 3, 5, 5\) in the file, \(64, 3, 3, 3\) in squeezenet1_1"
    ):
        starting_weights.pretrained(ARCH, str(path), seed=0)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_not_run(tmp_path):
    path, harm = tmp_path / "weights.pth", tmp_path / "harm"
    for write in (
        lambda: torch.save({"features.0.weight": Evil(str(harm))}, path),
        lambda: path.write_bytes(pickle.dumps(Evil(str(harm)))),
    ):
        write()
        with pytest.raises(UserError, match=r"model\.weights: .*weights\.pth is not a plain file of weights"):
            starting_weights.pretrained(ARCH, str(path), seed=0)
        assert not harm.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 torn"])
def test_a_file_of_something_else_is_named(tmp_path, content):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            starting_weights.pretrained(ARCH, str(tmp_path / name), seed=0)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        starting_weights.pretrained(ARCH, str(tmp_path / "list.pth"), seed=0)


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"missing\.pth does not exist"):
        starting_weights.pretrained(ARCH, str(tmp_path / "missing.pth"), seed=0)
    with pytest.raises(UserError, match="has no weights 'IMAGENET1K_V2'; it has IMAGENET1K_V1"):
        starting_weights.pretrained(ARCH, "IMAGENET1K_V2", seed=0)


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError) as refusal:
        starting_weights.pretrained(ARCH, "DEFAULT", seed=0)
    url = torchvision.models.get_model_weights(ARCH).DEFAULT.url
    for part in ("model.weights: DEFAULT of squeezenet1_1 could not be downloaded", url, "not known", "give its path"):
        assert part in str(refusal.value)


@pytest.fixture
def server(tmp_path):
    """The address of a web server on this machine that serves ``tmp_path``/web."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


@pytest.fixture
def published(tmp_path, server, monkeypatch):
    """Publishes a file as torchvision's weights, under a name that tells the digest of ``told`` (its own if None)."""

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def publish(told: bytes | None = None):
        path = tmp_path / "web" / "weights.pth"
        torch.save(state(), path)
        name = f"{ARCH}-{hashlib.sha256(told or path.read_bytes()).hexdigest()[:8]}.pth"
        path.rename(path.with_name(name))
        weights = torchvision.models.get_model_weights(ARCH).DEFAULT
        monkeypatch.setattr(
            weights, "_value_", weights.value.__class__(f"{server}/{name}", weights.transforms, weights.meta)
        )
        return tmp_path / "home" / "hub" / "checkpoints" / name

    return publish


def test_weights_are_downloaded_once_and_kept(published, tmp_path):
    kept = published()
    trunk, mean, std = starting_weights.pretrained(ARCH, "DEFAULT", seed=0)
    assert trunk_equals(trunk, state()) and kept.is_file()
    assert mean == pytest.approx(starting_weights.IMAGENET_MEAN) and std == pytest.approx(starting_weights.IMAGENET_STD)
    for path in (tmp_path / "web").iterdir():
        path.unlink()
    assert trunk_equals(starting_weights.pretrained(ARCH, "DEFAULT", seed=0)[0], state())


def test_a_download_that_is_not_what_was_published_is_refused(published, tmp_path):
    kept = published(told=b"something else")
    with pytest.raises(UserError, match=r"DEFAULT of squeezenet1_1"):
        starting_weights.pretrained(ARCH, "DEFAULT", seed=0)
    assert not kept.exists()


def test_a_missing_page_is_an_error_in_words(published, tmp_path):
    published()
    for path in (tmp_path / "web").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"could not be downloaded from http://127.*404"):
        starting_weights.pretrained(ARCH, "DEFAULT", seed=0)
