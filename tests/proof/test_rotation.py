"""The runbook's drill for a new key, run as it is written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.cli.conftest import clean_environment
from tests.support.documents import GUIDE, text_of
from tests.support.long import LONG
from tests.support.processes import started

_EXPECTED: Final = {"withdraw": [3], "resume": [3, 0]}
"""The exit codes of each command, in order."""


def _drill() -> list[str]:
    """Return the lines of the drill."""
    [section] = re.findall(r"^## rotation:.*?(?=^## )", text_of(GUIDE), re.MULTILINE | re.DOTALL)
    return re.findall(r"^ {4}(\S.*)", section, re.MULTILINE)


@LONG
def test_the_drill_for_a_new_key_settles_what_the_old_key_left_in_doubt(tmp_path: Path) -> None:
    """Without the old key the row names what is missing, and with it the row is accepted."""
    first, sandbox, *rest = _drill()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    folder: dict[str, Any] = {"cwd": tmp_path, "env": {**clean_environment(), "PATH": path}}
    subprocess.run(["/bin/bash", "-c", first], check=True, **folder)
    command = ["/bin/bash", "-c", f"exec {sandbox.replace('8123', '0')}"]
    with started(command, stdout=subprocess.PIPE, text=True, **folder) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        lines = [line.replace("http://127.0.0.1:8123", url) for line in rest]
        script = "\n".join(f"{line}; echo exit $?" if line.startswith("alphapo") else line for line in lines)
        outcome = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True, **folder)
        running.send_signal(signal.SIGTERM)
    codes = [int(code) for code in re.findall(r"^exit (\d+)$", outcome.stdout, re.MULTILINE)]
    assert codes == [*_EXPECTED["withdraw"], *_EXPECTED["resume"]], outcome
    missing = re.search(r"the key of fingerprint (\w+), which is not among this client's keys", outcome.stdout)
    assert missing is not None
    assert "ALPHAPO_RETIRED_KEYS_FILE" in outcome.stdout
    assert "No pass settles it without its key" in outcome.stdout
    assert "drill-1  accepted" in outcome.stdout
