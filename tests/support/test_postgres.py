"""The PostgreSQL server of a test process ends with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import postgres

_STARTS_ONE = """
import sys
from pathlib import Path
from tests.support import postgres
print(postgres.start(Path(sys.argv[1])).get_uri(), flush=True)
sys.stdin.read()
"""


def test_a_server_ends_with_the_process_that_started_it() -> None:
    """Also where that process is killed and cannot clean up; nothing of the server is left in memory or on the disk."""
    with tempfile.TemporaryDirectory(prefix="alphapo-postgres-", dir=postgres.quick_folder()) as parent:
        folder = Path(parent) / "data"
        command = [sys.executable, "-c", _STARTS_ONE, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"postgresql://")
            assert (folder / "postmaster.pid").exists()
            process.kill()

        until = time.monotonic() + 20
        while folder.exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert list(Path(parent).rglob("*")) == []
