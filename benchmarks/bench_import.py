"""What importing the client costs, as a ratio to `import aiohttp, msgspec`: `python -m benchmarks.bench_import`.

Each in a fresh process. tenacity loads with the client, before anything is sent; sqlite3 and asyncpg when a journal needs them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from benchmarks.measuring import measured, parser, report

STATEMENTS = {
    "import aiohttp, msgspec": "import aiohttp, msgspec",
    "ours: import the client": "from alphapo_async import AlphapoClient, WithdrawalRequest",
}
_TIMED = "import time; began = time.process_time(); {}; print((time.process_time() - began) * 1e3)"


def fresh(statement: str) -> float:
    """Return milliseconds of CPU for this statement in a process of its own."""
    # Bytecode is kept, as pip does when it installs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _TIMED.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def main() -> None:
    """Measure, print the table, and write the figures."""
    wanted = parser(__doc__, repeats=15).parse_args()
    contenders = {name: partial(fresh, statement) for name, statement in STATEMENTS.items()}
    for contender in contenders.values():
        contender()  # compiled now
    report("bench_import", wanted.out, [measured("Import", "ms", contenders, wanted.repeats)])


if __name__ == "__main__":
    main()
