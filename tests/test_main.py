"""The entry point of the command line."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from alphapo_async import __main__ as entry
from alphapo_async.__main__ import main
from tests.cli.conftest import clean_environment, run


def failing(name: str) -> Callable[[], Callable[..., Any]]:
    """Return a loader that does not find this module."""

    def load() -> Callable[..., Any]:
        raise ModuleNotFoundError(name=name)

    return load


@pytest.mark.parametrize("name", ["click", "rich", "rich.console"])
def test_without_the_extra_it_says_how_to_get_it(name: str) -> None:
    """One sentence with the line to type, exit code 2."""
    result = io.StringIO()
    with contextlib.redirect_stderr(result), pytest.raises(SystemExit) as end:
        main([], failing(name))
    assert end.value.code == 2
    assert result.getvalue() == "The command line needs the extra cli: pip install 'alphapo-async[cli]'\n"


@pytest.mark.parametrize("name", ["aiohttp", "clicks", ""])
def test_another_missing_module_is_not_blamed_on_the_extra(name: str) -> None:
    """Advice that does not help is not given."""
    with pytest.raises(ModuleNotFoundError):
        main([], failing(name))


@pytest.mark.parametrize("name", ["click", "rich"])
def test_a_python_without_the_extra(name: str) -> None:
    """The same in a Python that cannot import it: no traceback."""
    code = f"import sys; sys.modules[{name!r}] = None; from alphapo_async.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "pip install 'alphapo-async[cli]'" in result.stderr


def test_ctrl_c_while_it_loads() -> None:
    """The first half second is spent on imports: whoever thinks better of it then gets a sentence, and "run again"."""

    def load() -> Callable[..., Any]:
        raise KeyboardInterrupt

    result = io.StringIO()
    with contextlib.redirect_stderr(result), pytest.raises(SystemExit) as end:
        main([], load)
    assert end.value.code == 3
    assert result.getvalue() == "Interrupted before anything was sent.\n"


def test_a_system_without_file_locks() -> None:
    """Windows: where the commands cannot run is said, not raised."""
    code = "import sys; sys.modules['fcntl'] = None; from alphapo_async.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("The command line needs Linux or macOS;")
    assert result.stderr.count("\n") == 1


def test_it_runs_what_it_is_told() -> None:
    """Arguments reach the commands, whatever standard output is."""
    result = io.StringIO()
    with contextlib.redirect_stdout(result), pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert result.getvalue().startswith("alphapo, version ")


def test_a_character_that_does_not_fit_is_escaped() -> None:
    """An encoding of seven bits shows what it cannot show as an escape, and the command ends as it should."""
    result = run(
        "status",
        "ü",
        PYTHONIOENCODING="ascii",
        ALPHAPO_KEY="k",
        ALPHAPO_SECRET="s",
        ALPHAPO_BASE_URL="http://127.0.0.1:9",
    )
    assert result.returncode == 3
    assert "\\xfc" in result.stdout


def test_the_module_runs_as_a_program() -> None:
    """`python -m alphapo_async` is the same command line: what no command is called ends with 2."""
    with contextlib.redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as end:
        runpy.run_path(entry.__file__, run_name="__main__")
    assert end.value.code == 2
