"""fastai in a process of its own: its patches and its imports touch nothing of ours, and the two take turns."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from measure import Skipped

from eightfold.core.devices import computes_bfloat16


class Peer:
    """A worker that is asked one thing at a time and answers with the seconds it took.

    ``tuned``: with channels_last, and half precision where the machine computes it.
    """

    def __init__(
        self,
        threads: int,
        folder: Path,
        arch: str,
        weights: str | None,
        size: int,
        batch: int,
        seed: int = 0,
        tuned: bool = False,
    ):
        if find_spec("fastai") is None:
            raise Skipped(
                "fastai is not installed: make bench installs it, or pip install -r envs/requirements-bench.txt"
            )
        given = {"folder": str(folder), "arch": arch, "weights": weights, "size": size, "batch": batch}
        given |= {"seed": seed, "tuned": tuned, "bfloat16": computes_bfloat16(torch.device("cpu"))}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fastai_worker.py")), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def tell(self, **what) -> dict:
        """The worker's whole answer."""
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("the fastai worker died; see above")

    def ask(self, **what) -> float:
        return self.tell(**what)["seconds"]

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.wait()
