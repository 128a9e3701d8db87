"""Plant each mistake and hunt for it.

`python -m tests.proof.simulation.bugs`, `python -m tests.proof.simulation.bugs "Retry-After" --most 100`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from tests.proof.simulation.bugs.catalogue import BUGS, Bug
from tests.proof.simulation.bugs.hunt import Find
from tests.proof.simulation.bugs.planting import planted, run_in

__all__ = ["TABLE", "hunted", "main"]

TABLE: Final = Path(__file__).with_name("found.md")
"""Written when all mistakes are hunted for."""
_NAME: Final = max(len(bug.name) for bug in BUGS) + 2
_LINE: Final = f"{{:<{_NAME}}}{{:<13}}{{:>6}}{{:>9}}  {{}}"


def hunted(bug: Bug | None, most: int, each: int, runs: int = 0) -> Find:
    """Plant a mistake, or nothing, and hunt for it; shrink the world that finds it in so many runs."""
    found_by = "simulation" if bug is None else bug.found_by
    with planted(bug) as folder:
        test = "" if bug is None else bug.test
        return msgspec.json.decode(run_in(folder, found_by, str(most), str(each), str(runs), test), type=Find)


def _chosen(names: Sequence[str]) -> list[Bug]:
    """Return the mistakes whose names hold one of these words; all of them if there are no words."""
    return [bug for bug in BUGS if not names or any(name.lower() in bug.name.lower() for name in names)]


def _table(bugs: Sequence[Bug], finds: Sequence[Find]) -> str:
    """Return the table of what all hunts brought home."""
    lines = ["| planted | found by | seeds | events | what was violated |", "| --- | --- | --- | --- | --- |"]
    for bug, find in zip(bugs, finds, strict=True):
        needed = str(find.tries) if bug.found_by == "simulation" else "-"
        events = "-" if find.shrunk is None else str(find.shrunk.events)
        violation = (find.violation or "NOT FOUND").partition("\n")[0].replace("|", "/")[:160]
        lines.append(f"| {bug.name} | {bug.found_by} | {needed} | {events} | {violation} |")
    head = "# What was planted, and how soon it was found\n\nEvents: lines of the shortest story found of a failing world.\n\n"
    return head + "\n".join(lines) + "\n"


def _hunt_one(bug: Bug, most: int, each: int, runs: int) -> Find:
    began = time.perf_counter()
    found = hunted(bug, most, each * bug.crowd, runs)
    needed = found.tries if bug.found_by == "simulation" and found.violation else "-"
    took = f"{time.perf_counter() - began:.1f} s"
    print(
        _LINE.format(bug.name, bug.found_by, needed, took, found.violation or f"NOT FOUND in {found.tries}"), flush=True
    )
    if found.shrunk is not None:
        print("\n".join(f"    {line}" for line in found.shrunk.story), flush=True)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Hunt for what the command line names; 1 if something is not found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.simulation.bugs", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="mistakes whose names hold this; all, if none is named"
    )
    parser.add_argument("--most", type=int, default=400, help="seeds after which a hunt is given up")
    parser.add_argument("--each", type=int, default=40, help="withdrawals in a world, about")
    parser.add_argument(
        "--shrink", type=int, default=0, metavar="RUNS", help="shrink each world that finds one, in so many runs"
    )
    wanted = parser.parse_args(words)
    bugs = _chosen(wanted.names)
    if not bugs:
        parser.error("no mistake has such a name")
    print(_LINE.format("planted", "found by", "seeds", "took", "what was violated"))
    finds = [_hunt_one(bug, wanted.most, wanted.each, wanted.shrink) for bug in bugs]
    if not wanted.names:
        TABLE.write_text(_table(bugs, finds), encoding="utf-8")
    found = [find for find in finds if find.violation is not None]
    seeds = [find.tries for bug, find in zip(bugs, finds, strict=True) if bug.found_by == "simulation"]
    print(f"\n{len(found)} of {len(bugs)} found" + (f", median {median(seeds):g} seeds" if seeds else ""))
    if events := [find.shrunk.events for find in finds if find.shrunk is not None]:
        print(f"{len(events)} shrunk, to a median of {median(events):g} events")
    return 0 if len(found) == len(bugs) else 1


if __name__ == "__main__":
    sys.exit(main())
