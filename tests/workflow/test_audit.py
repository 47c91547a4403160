"""`make audit` asks about every pinned package, and ends badly on an advisory or without an answer.

Its command as it is, but for whom it asks: a stand-in of OSV's API on loopback in place of the package index.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("pip_audit", reason="pip-audit (envs/requirements-dev.txt) is not installed")
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
ROOT = Path(__file__).parents[2]


class Advisories(BaseHTTPRequestHandler):
    """OSV's query endpoint: an advisory for one package, or an error for all."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        self.server.asked[name] = asked["version"]
        affected = [{"package": asked["package"], "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]
        bad = [{"id": "PLANTED-1", "summary": "made up", "affected": affected}]
        body = json.dumps({"vulns": bad} if name == self.server.vulnerable else {}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    made.asked, made.vulnerable, made.status = {}, None, 200
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def audit(server) -> subprocess.CompletedProcess:
    told = subprocess.run(["make", "-n", "audit"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = next(line for line in told.splitlines() if "pip_audit" in line)
    words = ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}"]
    command = [sys.executable, *shlex.split(command)[1:], "--progress-spinner", "off", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_pinned_package_is_asked_about(server):
    found = audit(server)
    assert found.returncode == 0, found.stderr
    lines = [line for path in (ROOT / "envs").glob("requirements*.txt") for line in path.read_text().splitlines()]
    assert server.asked == dict(line.split("==") for line in lines if re.match(r"\w", line))


def test_an_advisory_ends_it_badly_with_the_packages_name(server):
    server.vulnerable = "torch"
    found = audit(server)
    assert found.returncode == 1 and re.search(r"^torch +[\d.]+ +PLANTED-1", found.stdout, re.MULTILINE)


def test_without_an_answer_it_ends_badly(server):
    server.status = 503
    assert audit(server).returncode != 0
