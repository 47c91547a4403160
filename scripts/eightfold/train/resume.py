"""The file that an unfinished stage goes on from: all that the next step depends on."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from eightfold.core import tensors
from eightfold.core.runtime import log
from eightfold.train.averaging import Average
from eightfold.train.records import Records
from eightfold.train.stepping import Stepper


def write_state(
    path: Path, net: nn.Module, stepper: Stepper, average: Average, records: Records, step: int, identity: str
) -> None:
    """Write what a stage goes on from before ``step``, with the ``identity`` of what it is trained on. The first of several
    processes alone writes."""
    if not stepper.ranks.writes:
        return
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    state |= {f"average.{name}": value for name, value in average.mean.items()}
    state |= {f"best.{name}": value for name, value in records.best.state.items()}
    if records.valid_losses:
        state["valid.losses"] = torch.from_numpy(np.stack(records.valid_losses))
    for i, parameter in enumerate(stepper.parameters()):
        kept = stepper.optimizer.state[parameter].items()
        state |= {f"optimizer.{i}.{name}": value for name, value in kept if value is not None}
    notes = {"step": step, "averaged": average.count, "batches": records.batches, "epochs": records.epochs}
    notes |= {"held_back": records.best.losses}
    tensors.save(path, state, identity, **notes)


def read_state(path: Path, net: nn.Module, stepper: Stepper, average: Average, identity: str) -> tuple[int, Records]:
    """(step to go on at, what was recorded before it), with net, optimizer and average as they were then.

    0 and nothing where there is no file. Raises UserError for a damaged file, or one of another ``identity``.
    """
    if not path.exists():
        return 0, Records()
    state, notes = tensors.load(path, identity), tensors.notes(path)
    net.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("net.")})
    device = next(net.parameters()).device
    average.count = notes["averaged"]
    average.mean = {name[8:]: value.to(device) for name, value in state.items() if name.startswith("average.")}
    parameters = stepper.parameters()
    for name, value in state.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            # AdamW counts its steps on the CPU, whatever the device.
            stepper.optimizer.state[parameters[int(i)]][key] = value if key == "step" else value.to(device)
    log.info("resuming at step %d from %s", notes["step"], path)
    losses = list(state["valid.losses"].numpy()) if "valid.losses" in state else []
    records = Records(notes["batches"], notes["epochs"], valid_losses=losses)
    records.best.losses = notes["held_back"]
    records.best.state = {name[5:]: value.to(device) for name, value in state.items() if name.startswith("best.")}
    return notes["step"], records
