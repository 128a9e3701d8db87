"""Makes the README's first payment as a reader makes it: `python -I tests/support/first_payment.py README.md`.

It needs the installed package with the extra `cli`, and nothing of this project's: it starts `alphapo sandbox`, sets what its second line
sets, and runs the first program of the page twice.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path


def first_payment(page: Path) -> list[str]:
    """Return what the first program of the page printed, each time."""
    (program, *_) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    command = [sys.executable, "-I", "-u", "-m", "alphapo_async", "sandbox"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox:
        try:
            assert sandbox.stdout is not None
            sandbox.stdout.readline()
            settings = dict(word.split("=", 1) for word in shlex.split(sandbox.stdout.readline())[1:])
            environment = {name: value for name, value in os.environ.items() if not name.startswith("ALPHAPO_")}
            run = [sys.executable, "-I", "-c", program]
            return [subprocess.check_output(run, env={**environment, **settings}, text=True) for _ in range(2)]
        finally:
            sandbox.terminate()


if __name__ == "__main__":
    first, again = first_payment(Path(sys.argv[1]))
    sys.exit(0 if "Withdrawal(id=" in first and first.partition(",")[0] == again.partition(",")[0] else 1)
