"""The loop that the command line runs on."""

import asyncio
import sys

import pytest
import uvloop

from alphapo_async.cli.loop import interruptible, loop_factory, run


async def kind() -> type[asyncio.AbstractEventLoop]:
    """Return what kind of loop runs this."""
    return type(asyncio.get_running_loop())


def test_commands_run_on_uvloop_where_it_is_installed() -> None:
    """The extra of that name."""
    assert run(kind()) is uvloop.Loop


def test_commands_run_on_asyncios_own_loop_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that asyncio makes by itself."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None
    assert run(kind()) is asyncio.run(kind())


def test_a_command_returns_what_its_story_returns() -> None:
    """And raises what it raises."""

    async def fails() -> None:
        raise KeyError("mine")

    assert run(asyncio.sleep(0, "told")) == "told"
    with pytest.raises(KeyError, match="mine"):
        run(fails())


def test_ctrl_c_where_nobody_else_hears_it_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """While the file is read, or while the report is made."""
    with pytest.raises(SystemExit) as ended, interruptible("Interrupted."):
        raise KeyboardInterrupt
    assert ended.value.code == 3
    assert capsys.readouterr().err == "Interrupted.\n"
