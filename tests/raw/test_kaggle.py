"""Kaggle in and out: the official client talks to a stand-in on this machine; archives from strangers stay in their folder."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eightfold.core.files import UserError
from eightfold.raw import kaggle_client, unpack

pytestmark = pytest.mark.slow
KEY = "s3cret-of-the-user"


def zipped(files: dict, **changes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            for key, value in changes.get(name, {}).items():
                setattr(member, key, value)
            archive.writestr(member, content)
    return made.getvalue()


class Kaggle(BaseHTTPRequestHandler):
    """What Kaggle's API answers, as far as the client asks it here. ``state`` is set by the test."""

    def log_message(self, *args):
        pass

    def reply(self, status, value, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        for name, text in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(text))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self):
        state, method = self.server.state, self.path.rpartition("/")[2]
        told = json.loads(self.body() or b"{}")
        state["calls"].append(method)
        state["authorization"].append(self.headers.get("Authorization"))
        if method in state["fail"]:
            status, message = state["fail"][method]
            return self.reply(status, {"code": status, "message": message})
        here = f"http://127.0.0.1:{self.server.server_port}"
        if method == "DownloadDataFiles":
            return self.reply(302, b"", Location=f"{here}/files/archive.zip?X-Goog-Signature=signed")
        if method == "StartSubmissionUpload":
            return self.reply(200, {"token": "blob", "createUrl": f"{here}/upload?signature=signed"})
        if method == "CreateSubmission":
            description = told["submissionDescription"]
            state["submissions"].insert(0, {"ref": 77, "description": description, "status": "PENDING"})
            return self.reply(200, {"message": "Successfully submitted", "ref": 77})
        if method == "ListSubmissions":
            if state["submissions"] and state["calls"].count(method) > state["patience"]:
                state["submissions"][0] |= state["outcome"]
            return self.reply(200, {"submissions": state["submissions"], "nextPageToken": ""})
        return self.reply(404, {"code": 404, "message": f"unknown {method}"})

    def do_GET(self):
        state = self.server.state
        data, start = state["archive"], 0
        asked = self.headers.get("Range")
        state["ranges"].append(asked)
        if asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        headers = {"Accept_Ranges": "bytes", "ETag": '"one"', "Last_Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}
        if state["break_at"] and not asked:  # the line goes dead in the middle
            self.send_response(200)
            for name, text in {"Content-Length": len(data), **headers}.items():
                self.send_header(name.replace("_", "-"), str(text))
            self.end_headers()
            self.wfile.write(data[: state["break_at"]])
            self.close_connection = True
            return None
        if asked:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.reply(206 if asked else 200, data[start:], **headers)

    def do_PUT(self):
        self.server.state["uploaded"] = self.body()
        self.reply(self.server.state["upload_status"], {})


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    pytest.importorskip("kaggle", reason="envs/requirements-extra.txt is not installed")
    from kagglesdk import kaggle_env

    server = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
    server.state = {
        "calls": [],
        "authorization": [],
        "fail": {},
        "submissions": [],
        "ranges": [],
        "break_at": None,
        "patience": 2,
        "upload_status": 200,
        "archive": zipped({"labels.csv": "id,label\n1,a\n"}),
        "outcome": {"status": "COMPLETE", "publicScore": "0.98765"},
    }
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, f"http://127.0.0.1:{server.server_port}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    yield server.state
    server.shutdown()
    server.server_close()


@pytest.fixture
def answer(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,label\n1,0.5\n")
    return path


def refusal(work, *args) -> str:
    with pytest.raises(UserError) as caught:
        work(*args)
    assert KEY not in str(caught.value) and "signed" not in str(caught.value)
    return str(caught.value)


def test_the_data_are_downloaded_by_the_client_itself(kaggle, tmp_path):
    archive = kaggle_client.download("digits", tmp_path / "download")
    assert archive.read_bytes() == kaggle["archive"]
    assert kaggle["calls"] == ["DownloadDataFiles"] and kaggle["authorization"][0].startswith("Basic ")


def test_a_broken_download_is_taken_up_where_it_stopped(kaggle, tmp_path):
    kaggle["archive"] = zipped({"noise.bin": os.urandom(3_000_000)})
    kaggle["break_at"] = 2_200_000
    archive = kaggle_client.download("digits", tmp_path / "download")
    assert archive.read_bytes() == kaggle["archive"]
    assert any(asked and asked != "bytes=0-" for asked in kaggle["ranges"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "kaggle.com/competitions/digits/rules"),
        (401, "new token"),
        (404, "no such competition"),
        (500, "status 500"),
    ],
)
def test_a_refused_download_says_what_to_do(kaggle, tmp_path, status, words):
    kaggle["fail"]["DownloadDataFiles"] = (status, "You must accept this competition's rules")
    assert words in refusal(kaggle_client.download, "digits", tmp_path)


def test_without_credentials_it_says_how_to_get_them(kaggle, tmp_path, monkeypatch):
    monkeypatch.delenv("KAGGLE_KEY")
    assert "KAGGLE_API_TOKEN" in refusal(kaggle_client.download, "digits", tmp_path)
    assert kaggle["calls"] == []


def test_a_submission_is_uploaded_awaited_and_recorded(kaggle, answer):
    told = kaggle_client.submit("digits", answer, "my-run", 0.01, 10)
    assert kaggle["uploaded"] == answer.read_bytes()
    assert (told["ref"], told["status"], told["public_score"]) == (77, "COMPLETE", "0.98765")
    assert "my-run" in told["description"] and KEY not in json.dumps(told)


def test_a_submission_is_not_sent_twice(kaggle, answer):
    kaggle["patience"] = 10**6
    assert "will not be uploaded twice" in refusal(kaggle_client.submit, "digits", answer, "run", 0.01, 0.05)
    kaggle["patience"] = 0
    assert kaggle_client.submit("digits", answer, "run", 0.01, 10)["ref"] == 77
    assert kaggle["calls"].count("CreateSubmission") == 1
    answer.write_text("id,label\n1,0.6\n")
    kaggle_client.submit("digits", answer, "run", 0.01, 10)
    assert kaggle["calls"].count("CreateSubmission") == 2


@pytest.mark.parametrize("method", ["ListSubmissions", "StartSubmissionUpload", "CreateSubmission"])
def test_any_failing_reply_is_an_error(kaggle, answer, method):
    kaggle["fail"][method] = (400, f"Submission limit reached, token {KEY}")
    assert "Submission limit reached" in refusal(kaggle_client.submit, "digits", answer, "run", 0.01, 1)


def test_a_failed_upload_and_an_unscorable_file_are_errors(kaggle, answer):
    kaggle["upload_status"] = 400
    assert "refused" in refusal(kaggle_client.submit, "digits", answer, "run", 0.01, 1)
    kaggle["upload_status"], kaggle["outcome"] = 200, {"status": "ERROR", "errorDescription": "Missing ids"}
    assert "Missing ids" in refusal(kaggle_client.submit, "digits", answer, "run", 0.01, 10)


# ---- archives


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", ".."])
def test_an_archive_that_would_leave_its_folder_is_refused_whole(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(zipped({"good.txt": "x", name: "y"}))
    assert "would leave" in refusal(unpack.unpack, tmp_path / "a.zip", tmp_path / "in" / "data")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.zip"]


def test_links_damage_and_lack_of_room_are_refused(tmp_path, monkeypatch):
    (tmp_path / "link.zip").write_bytes(zipped({"l": "/etc/passwd"}, l={"external_attr": 0o120777 << 16}))
    assert "a link" in refusal(unpack.unpack, tmp_path / "link.zip", tmp_path / "data")
    (tmp_path / "pipe.zip").write_bytes(zipped({"p": ""}, p={"external_attr": 0o010644 << 16}))
    assert "a device" in refusal(unpack.unpack, tmp_path / "pipe.zip", tmp_path / "data")
    content = bytearray(zipped({"a.txt": "hello" * 100}))
    content[40] ^= 255
    (tmp_path / "bad.zip").write_bytes(content)
    assert "cannot be unpacked" in refusal(unpack.unpack, tmp_path / "bad.zip", tmp_path / "data")
    (tmp_path / "big.zip").write_bytes(zipped({"a.txt": "0" * 5000}))
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: type("Room", (), {"free": 100}))
    assert "free" in refusal(unpack.unpack, tmp_path / "big.zip", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_archives_in_archives_become_folders_once(tmp_path):
    train = zipped({"train/1.jpg": "1", "train/2.jpg": "2"})
    outer = zipped({"train.zip": train, "test.zip": zipped({"3.jpg": "3"}), "labels.csv": "id", "more.7z": "?"})
    (tmp_path / "a.zip").write_bytes(outer)
    assert unpack.unpack(tmp_path / "a.zip", tmp_path / "data") == 4
    assert unpack.unpack_within(tmp_path / "data") == ["more.7z"]
    found = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.*"))
    assert found == ["labels.csv", "more.7z", "test/3.jpg", "train/1.jpg", "train/2.jpg"]


def test_what_macos_leaves_in_an_archive_is_left_there(tmp_path):
    """Beside it the folder train/ was not alone in train.zip, and became a class of its own."""
    inside = {
        "train/a/1.jpg": "1",
        "train/b/2.jpg": "2",
        "train/b/._2.jpg": "?",
        "__MACOSX/train/b/._2.jpg": "?",
        ".DS_Store": "?",
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.zip").write_bytes(zipped(inside))
    assert unpack.unpack_within(tmp_path / "data") == []
    found = sorted(
        path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*") if path.is_file()
    )
    assert found == ["train/a/1.jpg", "train/b/2.jpg"]


# ---- the whole way, through Snakemake

ROOT = Path(__file__).parents[2]
CONFIG = """
run: k
data: {source: kaggle, competition: digits, layout: folders, test: test}
split: {folds: 2}
model: {arch: squeezenet1_1, weights: none}
recipe: [{name: head, size: 32, train: head, augment: false, lr: 0.01}]
tta: {views: 0}
batch_size: 8
device: {kind: cpu, precision: float32}
"""


def encode_image(shade: int) -> bytes:
    made = io.BytesIO()
    noise = np.random.default_rng(shade).integers(0, 60, (36, 40, 3))
    Image.fromarray((noise + shade).astype(np.uint8)).save(made, "PNG")
    return made.getvalue()


def test_from_a_competition_to_its_score(kaggle, tmp_path, monkeypatch):
    """Download, unpack, train, submit by Snakemake itself, which starts its jobs as processes of their own."""
    from kagglesdk import kaggle_env

    here = kaggle_env.get_endpoint(kaggle_env.KaggleEnv.PROD)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"from kagglesdk import kaggle_env as e\ne._env_to_endpoint[e.KaggleEnv.PROD] = {here!r}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    room = tmp_path / "room"
    room.mkdir()
    for name in ("Snakefile", "rules", "scripts", "schemas", "profiles", "envs"):
        (room / name).symlink_to(ROOT / name)
    (room / "config.yaml").write_text(CONFIG)

    def snakemake(*words, fails=False) -> str:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *words]
        done = subprocess.run(command, cwd=room, capture_output=True, text=True)
        told = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, told
        assert KEY not in told and "X-Goog" not in told
        return told

    images = {
        f"train/{kind}/{i}.png": encode_image(shade + i)
        for kind, shade in (("dark", 0), ("light", 150))
        for i in range(6)
    }
    kaggle["archive"] = zipped(
        {**images, "test.zip": zipped({f"{i}.png": encode_image(150 * (i % 2)) for i in range(4)})}
    )
    kaggle["fail"]["DownloadDataFiles"] = (403, "You must accept this competition's rules")
    assert "kaggle.com/competitions/digits/rules" in snakemake("submission", fails=True).rpartition("Error: ")[2]
    assert not (room / "results/k").exists()
    del kaggle["fail"]["DownloadDataFiles"]

    snakemake("results/k/submission.csv")
    assert "CreateSubmission" not in kaggle["calls"] and "submit " not in snakemake(
        "submission", "--dry-run", "--forceall"
    )
    rows = (room / "results/k/submission.csv").read_text().splitlines()
    assert rows[0] == "id,dark,light" and len(rows) == 5
    told = json.loads(next((room / "results/cache").glob("kaggle-*/kaggle.json")).read_text())
    assert told["files"] == 16 and told["sha256"] == hashlib.sha256(kaggle["archive"]).hexdigest()

    whole = (room / "results/k/submission.csv").read_bytes()
    (room / "results/k/submission.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert "a grader would refuse it" in snakemake("submit", "--rerun-triggers", "params", fails=True)
    assert "CreateSubmission" not in kaggle["calls"]
    (room / "results/k/submission.csv").write_bytes(whole)
    kaggle["patience"] = 0
    assert "public score 0.98765" in snakemake("submit", "--rerun-triggers", "params")
    assert kaggle["uploaded"] == whole
    assert json.loads((room / "results/k/submitted.json").read_text())["public_score"] == "0.98765"
