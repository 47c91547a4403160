"""The file that an unfinished stage goes on from: what is written is read, by the stage that wrote it and no other."""

import numpy as np
import pytest
import torch
from test_training import CPU, head, same, targets, vectors

from eightfold.core.files import UserError
from eightfold.train.averaging import Average
from eightfold.train.distributed import Ranks
from eightfold.train.records import Records
from eightfold.train.resume import read_state, write_state
from eightfold.train.stepping import Stepper


def stepped(optimizer, steps, ranks=None):
    """A head, its stepper and an average of its weights, after some steps."""
    net = head()
    stepper, average = Stepper(net, CPU, False, {"optimizer": optimizer}, ranks=ranks), Average("ema", 0.9)
    for step in range(steps):
        stepper(vectors(range(6), step), torch.from_numpy(targets()[:6]), [0.05], step)
        average.after_step(net)
    return net, stepper, average


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_read_goes_on_as_what_was_written(tmp_path, optimizer):
    path, (net, stepper, average) = tmp_path / "resume.safetensors", stepped(optimizer, 3)
    records = Records([{"step": 2, "loss": 0.5}], [{"epoch": 1}], valid_losses=[np.array([0.25, 1.5], np.float32)])
    records.best.after_cycle(net, 0.75)
    write_state(path, net, stepper, average, records, 3, "me")

    other, its_stepper, its_average = stepped(optimizer, 0)
    step, found = read_state(path, other, its_stepper, its_average, "me")
    assert step == 3 and same(other, net)
    assert (found.batches, found.epochs) == (records.batches, records.epochs)
    assert [losses.tolist() for losses in found.valid_losses] == [[0.25, 1.5]]
    assert found.best.losses == [0.75] and found.best.state.keys() == records.best.state.keys()
    assert all(torch.equal(value, records.best.state[name]) for name, value in found.best.state.items())
    assert its_average.count == 3 and all(torch.equal(its_average.mean[n], v) for n, v in average.mean.items())
    for one in (stepper, its_stepper):
        one(vectors(range(6), 9), torch.from_numpy(targets()[:6]), [0.05], 9)
    assert same(other, net)


def test_without_a_file_a_stage_begins_at_its_start(tmp_path):
    net, stepper, average = stepped("sgd", 0)
    step, records = read_state(tmp_path / "none", net, stepper, average, "me")
    assert step == 0 and records == Records(best=records.best) and records.best.losses == [] and average.count == 0


def test_the_first_of_several_processes_alone_writes(tmp_path):
    net, stepper, average = stepped("sgd", 0, Ranks(1, 2))
    write_state(tmp_path / "resume", net, stepper, average, Records(), 1, "me")
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_refused(tmp_path):
    net, stepper, average = stepped("sgd", 1)
    write_state(tmp_path / "resume", net, stepper, average, Records(), 1, "someone else")
    with pytest.raises(UserError, match="made from other inputs"):
        read_state(tmp_path / "resume", net, stepper, average, "me")
