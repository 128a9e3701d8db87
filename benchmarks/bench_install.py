"""What installing costs: packages, size and import time beside other clients and engines: `python -m benchmarks.bench_install`.

Each is installed into an empty environment of its own, without extras; `--folder` keeps the environments for another run.
Sizes are those of the installed files without bytecode. Import times are CPU in a fresh process, the median of `--repeats`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = {
    "alphapo-async": (str(ROOT), "from alphapo_async import AlphapoClient, WithdrawalRequest"),
    "stripe": ("stripe", "import stripe"),
    "httpx": ("httpx", "import httpx"),
    "procrastinate": ("procrastinate", "import procrastinate"),
    "dbos": ("dbos", "from dbos import DBOS"),
}
_SIZE = """
import importlib.metadata
found = [each for each in importlib.metadata.distributions() if each.metadata["Name"] not in ("pip", "setuptools")]
files = [file.locate() for each in found for file in each.files or [] if file.suffix != ".pyc"]
print(len(found), sum(file.stat().st_size for file in files if file.is_file()))
"""
_TIMED = "import time; began = time.process_time(); {}; print((time.process_time() - began) * 1e3)"


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def installed(folder: Path, requirement: str) -> Path:
    """Return the Python of an environment that has this requirement, and nothing else."""
    python = folder / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", folder)
        _run(python, "-m", "pip", "install", "-q", requirement)
    return python


def import_time(python: Path, statement: str, repeats: int) -> float:
    """Return milliseconds of CPU for an import whose bytecode is there."""
    command = (python, "-c", _TIMED.format(statement))
    _run(*command)
    return statistics.median(float(_run(*command)) for _ in range(repeats))


def main() -> None:
    """Install, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the environments are kept; without it they are removed")
    parser.add_argument("--repeats", type=int, default=11)
    wanted = parser.parse_args()
    print(f"{'':16}{'packages':>10}{'MB':>8}{'import, ms':>12}")
    with tempfile.TemporaryDirectory() as temporary:
        for name, (requirement, statement) in CONTENDERS.items():
            python = installed((wanted.folder or Path(temporary)) / name, requirement)
            packages, size = _run(python, "-c", _SIZE).split()
            ms = import_time(python, statement, wanted.repeats)
            print(f"{name:16}{packages:>10}{int(size) / 1e6:>8.1f}{ms:>12.0f}", flush=True)


if __name__ == "__main__":
    main()
