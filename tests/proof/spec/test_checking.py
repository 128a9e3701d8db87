"""What is asked of TLC and what its output says; needs no Java."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.proof.spec.checking import FOLDER, Bounds, configuration, outcome_of
from tests.proof.spec.mapping import NO_ROW, SpecRow, Step
from tests.proof.spec.mistakes import COVERED, MISTAKES
from tests.proof.spec.traces import Trace, accepted_in, broken, module_of
from tests.proof.spec.traces import configuration as trace_configuration

SPECIFICATION = (FOLDER / "Withdrawal.tla").read_text(encoding="utf-8")
VIOLATED = """Error: Invariant P4 is violated.
State 1: <Initial predicate>
State 2: <Call line 60, col 9 to line 60, col 114 of module Withdrawal>
State 3: <Ask(w, FALSE) line 78, col 3>
68 states generated, 1,043 distinct states found, 30 states left on queue.
"""
ROW = SpecRow(state="open", rev=1, holder="w1", doubt=5)
TRACE = Trace(7, "payout-1", 0, (Step(1, "call"), Step(2, "record", "w1", row=ROW), Step(3, "lag", row=NO_ROW)))


def test_a_violated_property_is_named_with_the_actions_that_lead_to_it() -> None:
    """The states are counted."""
    found = outcome_of(VIOLATED, 2.0)
    assert (found.violated, found.story, found.states) == ("P4", ("Call", "Ask"), 1_043)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Error: Action property P5 is violated.", "P5"),
        ("Error: Action property line 3, col 5 of module Withdrawal is violated.", "line"),
        ("Error: Temporal properties were violated.", "Settles"),
    ],
)
def test_every_kind_of_property_is_known(line: str, name: str) -> None:
    """As this TLC words it."""
    assert outcome_of(line, 1.0).violated == name


def test_a_run_that_ends_well_has_no_error() -> None:
    """One that was ended, or whose module does not parse, has one."""
    assert outcome_of("Model checking completed. No error has been found.", 1.0).error == ""
    assert outcome_of("***Parse Error***", 1.0).error == "***Parse Error***"
    assert outcome_of("Progress(3)", 1.0).error.startswith("it was ended")


def test_every_constant_is_configured() -> None:
    """For the specification and for traces."""
    named = re.search(r"CONSTANTS ([^\n]*)", SPECIFICATION)
    assert named is not None
    for text in (configuration(Bounds()), trace_configuration()):
        assert {line.split()[0] for line in text.splitlines() if " = " in line} == set(named[1].split(", "))


def test_a_depth_is_a_constraint() -> None:
    """Liveness has none: it is about behaviors without an end."""
    assert "CONSTRAINT Short" in configuration(Bounds(depth=9))
    assert "CONSTRAINT" not in configuration(Bounds())
    assert "PROPERTIES Settles" in configuration(Bounds(), is_live=True)


def test_every_planted_mistake_is_in_the_specification_and_the_other_way_round() -> None:
    """By its name."""
    planted = [mistake.name for mistake in (*MISTAKES, *COVERED)]
    assert len(set(planted)) == len(planted)
    assert set(planted) == set(re.findall(r'Wrong\("([^"]+)"\)', SPECIFICATION))
    assert len(MISTAKES) >= 12


def test_every_planted_mistake_is_in_the_table() -> None:
    """With the property that finds it."""
    table = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", table, re.MULTILINE))
    for mistake in MISTAKES:
        assert rows[mistake.name] in ("P1", "P2Step", "P4", "P5", "FrozenStays")
    for mistake in COVERED:
        assert rows[mistake.name] == "-"


def test_a_trace_is_a_tuple_of_steps() -> None:
    """With the row where a write ended, and nothing to compare elsewhere."""
    text = module_of([TRACE])
    assert 'T1 == <<S(1, "call", "none", "", 0), C(2, "record", "w1", "", 0, R("open", 1, "w1", 0, 0, 5,' in text
    assert 'C(3, "lag", "none", "", 0, NoRow)>>' in text
    assert "Logs == <<T1>>\nLateOf == <<0>>" in text


def test_the_row_s_fields_are_the_specification_s() -> None:
    """In name; their order is this module's own."""
    record = re.search(r"NoRow == \[(.*?)\]", SPECIFICATION, re.DOTALL)
    assert record is not None
    assert set(re.findall(r"(\w+) \|->", record[1])) == set(SpecRow._fields)


def test_the_planted_trace_has_lost_its_doubt() -> None:
    """In the first trace that has one."""
    wrong = broken([TRACE._replace(steps=TRACE.steps[:1]), TRACE])
    assert [step.row and step.row.doubt for step in wrong.steps] == [None, 0, 0]
    with pytest.raises(ValueError, match="no trace has a doubt"):
        broken([TRACE._replace(steps=TRACE.steps[:1])])


def test_accepted_traces_are_read_from_the_output() -> None:
    """By their number."""
    assert accepted_in('<<"accepted", 3, 41>>\n<<"stuck", 4, 7>>\n<<"accepted", 12, 9>>') == {3, 12}
