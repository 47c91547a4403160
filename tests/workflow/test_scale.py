"""bench/scale.py: the simulation keeps to what can be counted by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import scale

FREE = scale.Rates(forward=100, train=10, decode=10, look=1e12, gb_s=1e12, overhead=0, efficiency=1)


def test_jobs_that_only_compute_share_the_devices():
    works = scale.parts_of("x", 1000, 0.1, 0, 8)
    assert scale.run(works, 4, FREE)[0] == pytest.approx(1000 * 0.1 / 4)
    assert scale.run(works, 3, FREE)[0] == pytest.approx(3 * 1000 * 0.1 / 8)  # three rounds of 12.5 s
    assert scale.run([scale.Work("x", 5, 0, devices=4), *works], 4, FREE)[0] == pytest.approx(5 + 25)


def test_jobs_that_only_read_share_the_file_system():
    slow = scale.Rates(**{**vars(FREE), "gb_s": 2.0, "overhead": 3.0})
    works = [scale.Work("x", 0, 10) for _ in range(4)]
    clock, starting, starved = scale.run(works, 4, slow)
    assert clock == pytest.approx(3 + 4 * 10 / 2) and starting == pytest.approx(12) and starved == pytest.approx(80)
    assert scale.run(works, 1, slow)[0] == pytest.approx(4 * (3 + 5))  # one after another, each with all of it


def test_hours_fall_with_devices_until_one_job_holds_all_up():
    hours = [scale.simulate(1e6, devices, FREE, 64, devices).hours for devices in (1, 8, 64)]
    assert hours[0] / hours[1] == pytest.approx(8, rel=0.05) and hours[2] < hours[1]
    told = scale.simulate(1e6, 64, scale.Rates(**{**vars(FREE), "look": 10}), 64, 64)
    assert max(told.of, key=told.of.get) == "manifest" and told.idle > 0.9
