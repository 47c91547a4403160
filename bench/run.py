"""All rows, or those asked for: a table, bench/results/<machine>.json and bars beside it.

python bench/run.py [--threads 2] [row or group ...]
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("rows", nargs="*", help="names of rows or groups; none: all")
parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads of both sides (all)")
parser.add_argument("--list", action="store_true", help="name the rows and end")
asked = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(asked.threads)  # before torch is imported

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE)]

import chart  # noqa: E402
import growth  # noqa: E402, F401 - enters its rows
import overheads  # noqa: E402, F401
import parts  # noqa: E402, F401
import recipe  # noqa: E402, F401
from measure import Skipped, machine, name_of  # noqa: E402
from rows import ROWS, Bench  # noqa: E402

from eightfold.core.files import read_json, write_json  # noqa: E402
from eightfold.core.runtime import keep_freed_memory  # noqa: E402

GROUPS = ("pixels", "views", "network", "stages", "overheads", "growth", "recipe")


def wanted(names: list[str]) -> list:
    """The rows of these names and groups, in the order of the list."""
    if unknown := [name for name in names if name not in ROWS and name not in GROUPS]:
        sys.exit(f"no row or group {unknown[0]!r}; groups: {', '.join(GROUPS)}; rows: {', '.join(ROWS)}")
    rows = sorted(ROWS.values(), key=lambda row: GROUPS.index(row.group))
    return [row for row in rows if not names or row.name in names or row.group in names]


def line(told: dict) -> str:
    if "skipped" in told:
        return f"{told['name']:36} skipped: {told['skipped']}"
    verdict = {None: "", True: "holds", False: "does not hold"}[told["holds"]]
    spread = f"{told['low']:.3g}..{told['high']:.3g} of {told['repetitions']}"
    return f"{told['name']:36} {told['ratio']:8.3g}  {spread:22} {told['wanted']:8} {verdict}"


def main() -> None:
    asked.rows = [name for words in asked.rows for name in words.split(",") if name]
    if asked.rows == ["accuracy"]:  # a table of its own, of scores and seconds instead of ratios
        import accuracy

        return accuracy.main(["--threads", str(asked.threads)])
    chosen = wanted(asked.rows)
    if asked.list:
        for row in chosen:
            print(f"{row.group:10} {row.name:36} {row.minutes:5.1f} min  {row.ratio}")
        return
    import torch

    torch.set_num_threads(asked.threads)
    keep_freed_memory()  # as every job of ours does
    here = machine(asked.threads)
    path = HERE / "results" / f"{name_of(here)}.json"
    # Rows that are not measured again stay, each with the versions and the load it was measured at.
    kept = {told["name"]: told for told in read_json(path)["rows"]} if path.exists() else {}
    print(
        f"{here['processor']}, {asked.threads} threads, load {os.getloadavg()[0]:.1f}; {here['versions']}", flush=True
    )
    print(f"about {sum(row.minutes for row in chosen):.0f} minutes\n{'row':36} {'ratio':>8}  spread", flush=True)
    bench = Bench(asked.threads)
    with bench.stack:
        for row in chosen:
            load, started = round(os.getloadavg()[0], 1), time.perf_counter()
            told = {"name": row.name, "group": row.group, "ratio_of": row.ratio, "wanted": row.wanted}
            told |= {"threads": asked.threads, "load": load, "versions": here["versions"]}
            try:
                found = row.measure(bench).told()
                told |= found | {"holds": row.holds(found["ratio"])}
            except Skipped as reason:
                told |= {"skipped": str(reason)}
            told["took_s"] = round(time.perf_counter() - started, 1)
            print(line(told), flush=True)
            if "skipped" not in told or row.name not in kept:
                kept[row.name] = told
            rows = [kept[row.name] for row in wanted([]) if row.name in kept]
            command = "python bench/run.py " + " ".join([f"--threads {asked.threads}", *asked.rows])
            write_json(path, {"machine": name_of(here), "about": here, "command": command.strip(), "rows": rows})
    chart.write(path.with_suffix(".svg"), json.loads(path.read_text()))
    print(f"\n{path.relative_to(HERE.parent)} and .svg")


if __name__ == "__main__":
    main()
