"""The proof with real engines: what it counts, and that the guide's programs are short."""

from __future__ import annotations

import pytest

from alphapo_async.sandbox import Call, Fault
from tests.proof.durable_engines import __main__ as command
from tests.proof.durable_engines.engines import ENGINES, Engine
from tests.proof.durable_engines.run import StallOnDemand
from tests.support.documents import GUIDE
from tests.support.programs import program_with


@pytest.mark.parametrize("engine", ENGINES.values(), ids=str)
def test_a_program_has_at_most_30_lines(engine: type[Engine]) -> None:
    """Blank lines apart; each is an ordinary program of its engine."""
    lines = [line for line in program_with(GUIDE, engine.imports).splitlines() if line.strip()]
    assert len(lines) <= 30


def test_what_a_machine_lacks_is_not_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named in one line; where everything is required, the command fails."""

    class Far(Engine):
        name = "far"
        packages = ("no_such_package",)
        programs = ("no-such-server",)

    monkeypatch.setattr(command, "ENGINES", {"far": Far})
    assert command.main([]) == 0
    assert "not run: 1: far (needs no_such_package, no-such-server)" in capsys.readouterr().out
    assert command.main(["--require-all"]) == 1


def test_one_new_body_stalls_each_time_it_is_asked_for() -> None:
    """A refused withdrawal, a repeated body and a look-up are left alone, and every eleventh other reply is lost."""
    stalls = StallOnDemand({"1"})
    asked = [
        Call("withdrawal", "1", 1, 0.0),
        Call("withdrawal", "2", 2, 0.0),
        Call("look-up", "2", 1, 0.0),
        Call("withdrawal", "2", 1, 0.0),
        Call("withdrawal", "3", 1, 0.0),
        Call("withdrawal", "b", 1, 0.0),
    ]
    stalls.ask()
    faults = [stalls.next(call) for call in asked]
    assert faults == [None, None, None, Fault.STALL_AFTER, None, Fault.RESET_AFTER]
    assert stalls.stalled == "2"
