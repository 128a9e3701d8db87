"""Mistakes that are planted in the specification one at a time, each in a world in which it should be found."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.proof.spec.checking import Bounds

__all__ = ["COVERED", "MISTAKES", "Mistake"]


class Mistake(NamedTuple):
    """A planted mistake."""

    name: str
    """As `Wrong` has it in the specification."""
    bounds: Bounds
    means: str


_BLIND: Final = 1_000_000
MISTAKES: Final = (
    Mistake(
        "a refusal ends doubt",
        Bounds(),
        "Bad news wins: a refusal settles the row although an earlier body may have arrived.",
    ),
    Mistake("a none settles", Bounds(late_times=(1,)), "Not found is taken for never sent."),
    Mistake("no control", Bounds(late_times=(2,)), "The quiet exit believes a look-up that shows late."),
    Mistake(
        "any control counts",
        Bounds(quiet=2, keep=6, max_time=8, late_times=(1,)),
        "A control from within the quiet time counts.",
    ),
    Mistake(
        "letting go settles", Bounds(), "A worker that lets go of a row reports it as not sent, whatever it has sent."
    ),
    Mistake("a refused key ends doubt", Bounds(faults=("key",)), "A key that is not accepted settles a row in doubt."),
    Mistake("corrected in doubt", Bounds(revisions=2), "Another payment replaces one that may have arrived."),
    Mistake("an old call undoes a no", Bounds(), 'A call from before a "no" was recorded pays after it was reported.'),
    Mistake(
        "a lapse leaves no doubt",
        Bounds(faults=("lapse",), workers=2),
        "A worker that disappears is taken to have sent nothing.",
    ),
    Mistake(
        "a lapse ends at once",
        Bounds(faults=("lapse", "operator"), lease=3),
        "A worker that is paused is taken to send nothing any more.",
    ),
    Mistake(
        "sent after the lease",
        Bounds(faults=("lapse", "operator")),
        "A paused worker sends although its lease has ended.",
    ),
    Mistake(
        "the operator does not wait",
        Bounds(faults=("lapse", "operator")),
        "The operator decides while a body may still be accepted.",
    ),
    Mistake(
        "a late doubt opens a no",
        Bounds(faults=("lapse", "operator")),
        "A worker reports an old attempt, and the settled row is sent again.",
    ),
    Mistake(
        "sent when the id may be free",
        Bounds(faults=("free",), late_times=(_BLIND,)),
        "The same bytes are sent after AlphaPo may have freed the id.",
    ),
    Mistake(
        "an end settles at once",
        Bounds(faults=("cancel",)),
        "A cancelled withdrawal is taken for the end of every attempt.",
    ),
    Mistake(
        "frozen rows are sent",
        Bounds(faults=("back",)),
        "A worker sends a row that was open when the journal went back.",
    ),
    Mistake(
        "quiet from the sending",
        Bounds(faults=("back", "operator")),
        "A body of a worker that has not seen the journal go back is accepted later than A3 says.",
    ),
    Mistake(
        "an old none counts",
        Bounds(faults=("free",), late_times=(0, _BLIND)),
        'A "none" counts although AlphaPo may have freed the id: the row is settled, asked for again, and paid twice.',
    ),
)
COVERED: Final = (
    Mistake(
        "no quiet time",
        Bounds(late_times=(0, 1)),
        "A refusal within the quiet time counts as one after it: the control, which the quiet time bounds, covers it.",
    ),
    Mistake(
        "two workers send at a time",
        Bounds(faults=("lapse",), workers=2, depth=13),
        "A worker sends while another one may: the id is unique, and both stay in doubt.",
    ),
    Mistake(
        "a stale no counts",
        Bounds(faults=("lapse",), workers=2, depth=13),
        "A refusal counts from a worker that lost the row: the lapse has put the row in doubt.",
    ),
)
"""Mistakes that other rules cover within these bounds."""
