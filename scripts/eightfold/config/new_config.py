"""The first config of a job: what `guess` sees in a folder and what a budget buys, shown to a person and written where they agree."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from eightfold.config.config_text import config_text
from eightfold.config.guess import Layout, infer, preset_for
from eightfold.config.quality import Budget, Choice, Job, Recipe, choose
from eightfold.config.resolve import check_yaml_file, resolve
from eightfold.core.files import UserError, write_text
from eightfold.core.wording import memory_text, time_text


class Cost(NamedTuple):
    """What a run is forecast to cost. seconds: of the run; megabytes: of disk when all is there; on: which machine, and
    where the rates are from."""

    seconds: float
    megabytes: float
    on: str


class Machine(NamedTuple):
    """What `make new` asks of the machine. gpu: whether it has one; forecast: the cost of a resolved config on a layout's images."""

    gpu: bool
    forecast: Callable[[dict, Layout], Cost]


def write_config(
    name: str,
    data: str,
    file: str | None,
    budget: Budget,
    machine: Machine,
    ask: Callable[[str], str] | None = None,
) -> str:
    """Write a config for the folder or table ``data`` to ``file`` (configs/<name>.yaml), and return what to say of it.

    ask: takes a question and returns the answer; the config is then printed first, and written where the answer is yes. None
    asks nothing. Raises UserError for a name that is not one, for data that are not there or that nothing fits, and for a
    file that is there already.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or name.lower() == "cache":
        raise UserError(f"NAME={name}: letters, digits, `.`, `_` and `-`, starting with a letter or digit")
    if not data or not Path(data).exists():
        raise UserError(f"DATA={data}: no such folder; say make new NAME={name} DATA=folder")
    path = Path(file or f"configs/{name}.yaml")
    if path.exists():
        raise UserError(f"{path} is there already; delete it, or choose another NAME")
    layout = infer(data)
    text, said = new_text(name, layout, budget, machine)
    if ask is not None:
        print(text)
        if ask(f"Write this to {path}? [Y/n] ").strip().lower() not in ("", "y", "yes"):
            return "Nothing was written."
    write_text(path, text)
    resolve(check_yaml_file(path), str(path))
    target = "submission" if layout.test else "evaluate"
    return f"{said}\n{path} is written. Look it over, then: make {target} CONFIG={path}"


def new_text(name: str, layout: Layout, budget: Budget, machine: Machine) -> tuple[str, str]:
    """(config, what was chosen and what it costs) of a layout."""
    costs: dict[str, Cost] = {}

    def seconds_of(recipe: Recipe) -> float:
        config = resolve(yaml.safe_load(config_text(name, layout, recipe)), f"the new config ({recipe.name})")
        costs[recipe.name] = machine.forecast(config, layout)
        return costs[recipe.name].seconds

    choice = choose(job_of(layout, machine.gpu), budget, seconds_of)
    said = describe(choice, budget, costs[choice.recipe.name])
    return config_text(name, layout, choice.recipe, [said]), said


def job_of(layout: Layout, gpu: bool) -> Job:
    """What the choice of a recipe depends on, of a layout."""
    preset, _ = preset_for(layout)
    return Job(layout.labelled, len(layout.classes), layout.size, preset, gpu, "valid" in layout.data)


def describe(choice: Choice, budget: Budget, cost: Cost) -> str:
    """One line: the recipe, why it was taken, and its forecast."""
    name, disk = choice.recipe.name, memory_text(cost.megabytes)
    forecast = f"forecast {time_text(cost.seconds)} {cost.on}, {disk} of disk"
    if budget.hours is None:
        return f"Quality `{name}`: {forecast}."
    given = f"{budget.hours:g} hours"
    if not choice.fits:
        return f"Not even the cheapest recipe, `{name}`, fits into {given}: {forecast}."
    if choice.next_rung is None:
        return f"The best recipe, `{name}`, fits into {given}: {forecast}."
    dearer, seconds = choice.next_rung
    return f"Best recipe that fits into {given}: `{name}`, {forecast}; `{dearer}` would take {time_text(seconds)}."
