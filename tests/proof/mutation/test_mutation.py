"""The command, over the smallest module there is."""

from __future__ import annotations

import subprocess
import sys

from tests.coverage_gate import ROOT
from tests.support.long import LONG


@LONG
def test_a_changed_module_is_killed_by_its_tests() -> None:
    """The one mutant of the release's number does not survive, and the command says so."""
    command = [sys.executable, "-m", "tests.proof.mutation", "core", "core/version.py", "--own", "--workers", "1"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (ran.returncode, ran.stdout.splitlines()[-1].split()) == (
        0,
        ["1", "of", "1", "killed", "100.0", "%", "in", "all"],
    )
