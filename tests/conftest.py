"""What several test files share: one real run of the whole workflow on tiny images."""

import fcntl
import os
import shutil

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: as many workers as cores, a thread each

from pipeline import Checkout


def pytest_collection_modifyitems(items) -> None:
    """What runs the workflow is slow: `make check` leaves it out."""
    for item in items:
        if item.path.parent.name == "workflow" or "finished" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A checkout whose `submission` target has been made. Shared: look, but change only a copy.

    The first worker to ask makes it; the others wait and take it.
    """
    room = tmp_path_factory.getbasetemp()
    room = room.parent if "PYTEST_XDIST_WORKER" in os.environ else room
    folder, told = room / "finished" / "checkout", room / "finished.txt"
    with open(room / "finished.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            shutil.rmtree(folder, ignore_errors=True)
            told.write_text(Checkout.new(folder).run("submission"), encoding="utf-8")
    checkout = Checkout(folder)
    checkout.first_output = told.read_text(encoding="utf-8")
    return checkout
