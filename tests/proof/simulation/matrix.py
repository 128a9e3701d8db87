"""`python -m tests.proof.simulation.matrix` plays every cell of the fault matrix and prints it.

It exits with 1 if one differs from the table.
"""

from __future__ import annotations

import sys
import time

from tests.proof.simulation.sockets.cells import ATTEMPTS, PATHS, TRANSPORTS, Cell
from tests.proof.simulation.sockets.faults import FAULTS
from tests.proof.simulation.test_fault_matrix import IMPOSSIBLE, all_cells, expected, impossible, play_all

_COLUMNS = [(attempt, transport) for attempt in ATTEMPTS for transport in TRANSPORTS]
_NAME, _WIDTH = 46, 11


def _row(name: str, words: list[str]) -> str:
    return f"{name[:_NAME]:<{_NAME}}" + "".join(f"{word:<{_WIDTH}}" for word in words)


def _word(cell: Cell, played: dict[Cell, list[str]]) -> str:
    if cell not in played:
        return "-"
    return "DIFFERS" if played[cell] else expected(cell)[0]


def main() -> int:
    """Play, print, count."""
    cells = all_cells()
    began = time.monotonic()
    played = play_all(cell for cell in cells if impossible(cell) is None)
    lasted = time.monotonic() - began
    heads = [_row("", [attempt.partition(",")[0] for attempt, _ in _COLUMNS])]
    heads += [_row("", [attempt.partition(", ")[2] for attempt, _ in _COLUMNS])]
    heads += [_row("", [transport for _, transport in _COLUMNS])]
    for path in PATHS:
        print("\n".join(["", f"path: {path}", *heads]))
        for phase, faults in FAULTS.items():
            print(f"\n{phase}")
            for name in faults:
                words = [_word(Cell(phase, name, attempt, transport, path), played) for attempt, transport in _COLUMNS]
                print(_row(f"  {name}", words))
    found = [one for differences in played.values() for one in differences]
    print()
    for one in found:
        print(one)
    for *_, reason in IMPOSSIBLE:
        print(f"- {sum(impossible(cell) == reason for cell in cells)} impossible: {reason}")
    print(
        f"{sum(map(len, FAULTS.values()))} faults, {len(played)} cells, each played to both ends, in {lasted:.1f} s; "
        f"{len(cells) - len(played)} impossible; {len(found)} differences"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
