"""Every fault of the wire, at every kind of attempt, plain and over TLS, through real sockets: no outcome told contradicts the truth.

The far end accepts what AlphaPo's desk accepts, so that the truth is known. What each fault proves is written down here, and computed by
nothing. `python -m tests.proof.simulation.matrix` prints the matrix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pytest

from tests.proof.simulation.sockets.cells import (
    ATTEMPTS,
    ENDINGS,
    PATHS,
    TRANSPORTS,
    Attempt,
    Cell,
    Ending,
    Path,
    Seen,
    Transport,
    play,
)
from tests.proof.simulation.sockets.faults import FAULTS, Phase
from tests.proof.simulation.sockets.loop import run
from tests.support.long import LONG

_AT_ONCE: Final = 48
_PLAYS_SECONDS: Final = 600.0  # of a clock that passes only while nothing happens

_WITHOUT_A_WORD: Final = (
    "page with 200",
    "page with 403",
    "page with 404",
    "page with 408",
    "page with 502",
    "page with 503",
    "page with 504",
    "empty 200",
    "empty 202",
    "empty 400",
    "empty 500",
    "200 that is no UTF-8",
    "200 with null",
    "200 with a list",
    "200 of depth 100 000",
    "200 cut by its own length",
    "200 that refuses",
    "401",
    "403 with an unknown code",
    "404",
    "400 with an unknown code",
    "400 with errors of no field",
    "400 as a page with errors",
    "500",
    "500 with errors",
    "redirect 301",
    "redirect 302",
    "redirect 303",
    "redirect 307",
    "redirect 308",
)

EXPECTED: Final[Mapping[Phase, Mapping[tuple[str, str, str], tuple[str, ...]]]] = {
    # What the struck attempt proves: plain, over TLS. What AlphaPo has made of the withdrawal by then: "accepted", nothing ("no"), or
    # "later": it will, when the attempt is over. Below: the faults of which that is so.
    "name": {
        ("not sent", "not sent", "no"): (
            "not found",
            "server failure",
            "no answer",
            "dead address",
            "dead addresses only",
        ),
        ("accepted", "accepted", "accepted"): ("dead address first",),
    },
    "connect": {
        ("not sent", "not sent", "no"): ("refused", "time-out", "reset on accepting"),
    },
    "TLS": {
        ("", "not sent", "no"): (
            "another host",
            "expired",
            "unknown authority",
            "protocol too old",
            "stall",
            "stall in a record",
            "reset",
            "close",
            "alert: protocol version",
            "alert: internal error",
            "plain 400",
            "plain 429",
        ),
        # TLS 1.3 refuses a client without a certificate only after the client's last word of the handshake, and its first ones after it.
        ("", "in doubt", "no"): ("asks for a certificate",),
    },
    "idle connection": {
        # Seen and dropped, some at the last moment; the request leaves on a fresh connection.
        ("accepted", "accepted", "accepted"): (
            "closed",
            "reset",
            "408 and closed",
            "garbage",
            "closed, unread",
            "408 and closed, unread",
            "429",
            "429, unread",
            "201 of another, unread",
            "100",
            "half a 429, unread",
            "closed as it leaves",
            "reset as it leaves",
        ),
        ("in doubt", "in doubt", "accepted"): ("half a 429",),
    },
    "request's head": {
        ("in doubt", "in doubt", "no"): (
            "nothing read, close",
            "nothing read, half-close",
            "nothing read, reset",
            "nothing read, stall",
            "nothing read, 503 and close",
            "head read, close",
            "head read, reset",
            "head read, stall",
            "head read, 431 and close",
            "head read, 100 and stall",
        ),
        ("throttled", "throttled", "no"): ("nothing read, 429 and close",),
    },
    "request's body": {
        ("in doubt", "in doubt", "no"): (
            "a part read, close",
            "a part read, reset",
            "a part read, stall",
            "early 413, then nothing",
            "early 413, then a reset",
            "early 502, then nothing",
            "early 502, then a reset",
        ),
        ("rejected", "rejected", "no"): (
            "early 400 blaming a field, then nothing",
            "early 400 blaming a field, then a reset",
        ),
        ("throttled", "throttled", "no"): ("early 429, then nothing", "early 429, then a reset"),
    },
    "wait": {
        ("in doubt", "in doubt", "accepted"): ("close, paid", "half-close, paid", "reset, paid", "stall, paid"),
        ("in doubt", "in doubt", "no"): (
            "close, not paid",
            "half-close, not paid",
            "reset, not paid",
            "stall, not paid",
        ),
        ("in doubt", "in doubt", "later"): ("close, paid later", "reset, paid later", "stall, paid later"),
    },
    "reply's head": {
        ("accepted", "accepted", "accepted"): (
            "HTTP/1.0",
            "HTTP/2.0",
            "100 before it",
            "many 100s before it",
            "103 before it",
            "twice",
            "followed by a 429",
            "bytes of no alphabet in a header",
            "folded header",
        ),
        ("in doubt", "in doubt", "accepted"): (
            "cut in the status line, close",
            "cut in the status line, reset",
            "cut in the status line, stall",
            "cut in the headers, close",
            "cut in the headers, reset",
            "cut in the headers, stall",
            "cut before the empty line",
            "no HTTP",
            "binary",
            "empty lines only",
            "status of letters",
            "status of two digits",
            "status 999",
            "status line of a request",
            "HTTP/0.9",
            "HTTP/3.7",
            "frames of HTTP/2",
            "100 only, close",
            "100 only, reset",
            "100 only, stall",
            "102 only",
            "101",
            "204",
            "304",
            "header of 70 000 bytes",
            "a thousand headers",
            "header without a colon",
            "header without a name",
            "NUL in a header",
            "status line in a header",
            "two lengths",
            "length of letters",
            "negative length",
            "length and chunks",
            "unknown transfer encoding",
        ),
    },
    "reply's body": {
        ("accepted", "accepted", "accepted"): (
            "no length, whole, close",
            "no length, whole, half-close",
            "no length, whole, reset",
            "chunks, whole",
            "chunks of one byte",
            "gzip",
            "1 MiB",
        ),
        ("in doubt", "in doubt", "accepted"): (
            "length too long, close",
            "length too long, half-close",
            "length too long, reset",
            "length too long, stall",
            "length too short",
            "no length, half, close",
            "no length, half, half-close",
            "no length, half, reset",
            "no length, stall",
            "chunks, cut in a chunk",
            "chunks, cut before the last, close",
            "chunks, cut before the last, half-close",
            "chunks, cut before the last, reset",
            "chunks, cut before the last, stall",
            "chunk of no size",
            "chunk of a wrong size",
            "chunk size of letters",
            "chunk size beyond all bounds",
            "half a body, stall",
            "half a body, reset",
            "gzip, cut",
            "gzip that is none",
            "unknown coding",
            "1 MiB and a byte",
        ),
    },
    "reply": {
        ("accepted", "accepted", "accepted"): ("accepted, keep", "accepted, close", "accepted, byte by byte"),
        ("duplicate", "duplicate", "accepted"): ("duplicate, keep", "duplicate, close"),
        ("rejected", "rejected", "no"): ("rejected, keep", "rejected, close"),
        ("key refused", "key refused", "no"): ("refused key, keep", "refused key, close"),
        ("throttled", "throttled", "no"): ("throttled, keep", "throttled, close", "throttled, a page"),
        ("mismatch", "mismatch", "no"): ("another foreign_id, keep", "another foreign_id, close"),
        ("mismatch", "mismatch", "accepted"): ("another amount, keep", "another amount, close"),
        ("in doubt", "in doubt", "no"): ("rejected, cut", "throttled, cut"),
    },
    "reply without a word, not paid": {("in doubt", "in doubt", "no"): _WITHOUT_A_WORD},
    "reply without a word, paid": {("in doubt", "in doubt", "accepted"): _WITHOUT_A_WORD},
}

IMPOSSIBLE: Final[
    tuple[tuple[frozenset[Phase], frozenset[Attempt], frozenset[Transport], frozenset[Path], str], ...]
] = (
    (frozenset({"TLS"}), frozenset(ATTEMPTS), frozenset({"plain"}), frozenset(PATHS), "there is no TLS in it"),
    (
        frozenset({"name", "connect", "TLS"}),
        frozenset({"later, reused", "next, reused"}),
        frozenset(TRANSPORTS),
        frozenset(PATHS),
        "a connection that stands is not made again",
    ),
    (
        frozenset({"idle connection"}),
        frozenset({"first", "later, fresh"}),
        frozenset(TRANSPORTS),
        frozenset(PATHS),
        "a new connection has never been idle",
    ),
    (
        frozenset(FAULTS),
        frozenset({"later, reused", "next, reused"}),
        frozenset(TRANSPORTS),
        frozenset({"public"}),
        "on the public path a connection serves once",
    ),
)
"""Cells that cannot exist: phases, attempts, transports, paths and the reason."""

DOUBTED_ON_THE_PUBLIC_PATH: Final = frozenset({("connect", "reset on accepting", "plain")})
"""Faults that end a connection before a byte is written: on the public path a connection that was handed over may have carried bytes."""

ENDS: Final[Mapping[tuple[str, str, Ending], tuple[str, str]]] = {
    # The struck attempt proves this, the truth is that, and then: what is told in the end, without and with doubt from an earlier attempt.
    ("accepted", "accepted", "all is well again"): ("accepted", "accepted"),
    ("accepted", "accepted", "nobody is there"): ("accepted", "accepted"),
    ("not sent", "no", "all is well again"): ("accepted", "accepted"),
    ("not sent", "no", "nobody is there"): ("not_sent", "unknown"),
    ("throttled", "no", "all is well again"): ("accepted", "accepted"),
    ("throttled", "no", "nobody is there"): ("not_sent", "unknown"),
    ("in doubt", "no", "all is well again"): ("accepted", "accepted"),
    ("in doubt", "no", "nobody is there"): ("unknown", "unknown"),
    ("in doubt", "later", "all is well again"): ("accepted", "accepted"),
    ("in doubt", "later", "nobody is there"): ("unknown", "unknown"),
    ("in doubt", "accepted", "all is well again"): ("accepted", "accepted"),
    ("in doubt", "accepted", "nobody is there"): ("unknown", "unknown"),
    # The journal forgets with its process, so that a refusal is believed only after a look-up.
    ("rejected", "no", "all is well again"): ("rejected", "unknown"),
    ("rejected", "no", "nobody is there"): ("unknown", "unknown"),
    ("key refused", "no", "all is well again"): ("key_refused", "unknown"),
    ("key refused", "no", "nobody is there"): ("key_refused", "unknown"),
    ("duplicate", "accepted", "all is well again"): ("accepted", "accepted"),
    ("duplicate", "accepted", "nobody is there"): ("unknown", "unknown"),
    # Never followed by another body.
    ("mismatch", "no", "all is well again"): ("unknown", "unknown"),
    ("mismatch", "no", "nobody is there"): ("unknown", "unknown"),
    ("mismatch", "accepted", "all is well again"): ("accepted", "accepted"),
    ("mismatch", "accepted", "nobody is there"): ("unknown", "unknown"),
}

REMEMBERED: Final = frozenset({"no answer", "dead address", "dead addresses only"})
"""Names whose answer aiohttp keeps for 10 s, and whose question it asks once at a time: for this call nobody is there any more."""


def expected(cell: Cell) -> tuple[str, str]:
    """Return what the table says of a cell: what the attempt proves, and what AlphaPo has made of the withdrawal."""
    ((plain, tls, truth),) = (row for row, names in EXPECTED[cell.phase].items() if cell.name in names)
    if cell.path == "public" and (cell.phase, cell.name, cell.transport) in DOUBTED_ON_THE_PUBLIC_PATH:
        return "in doubt", truth
    return plain if cell.transport == "plain" else tls, truth


def impossible(cell: Cell) -> str | None:
    """Return why a cell cannot exist."""
    return next(
        (
            reason
            for phases, attempts, transports, paths, reason in IMPOSSIBLE
            if cell.phase in phases and cell.attempt in attempts and cell.transport in transports and cell.path in paths
        ),
        None,
    )


def all_cells() -> list[Cell]:
    """Return every cell, the impossible ones included."""
    return [
        Cell(phase, name, attempt, transport, path)
        for path in PATHS
        for phase, faults in FAULTS.items()
        for name in faults
        for attempt in ATTEMPTS
        for transport in TRANSPORTS
    ]


def differences(cell: Cell, ending: Ending, seen: Seen) -> list[str]:
    """Return where what came of a cell differs from the tables, and whatever must never be."""
    proof, truth = expected(cell)
    follows: Ending = "nobody is there" if cell.phase == "name" and cell.name in REMEMBERED else ending
    told = ENDS[proof, truth, follows][cell.is_doubted]
    found = [f"{cell} | {ending}: {wrong}" for wrong in seen.wrong]
    if (seen.proof, seen.truth) != (proof, truth):
        found.append(f"{cell} | {ending}: {seen.proof} ({seen.truth}), not {proof} ({truth})")
    if seen.told != told:
        found.append(f"{cell} | {ending}: told {seen.told}, not {told}")
    return found


def play_all(cells: Iterable[Cell]) -> dict[Cell, list[str]]:
    """Play the cells, each with both endings, and return the differences of each; those of no cell stand beside the last one."""
    chosen = list(cells)
    return run(_play_all(chosen)) if chosen else {}


async def _play_all(cells: list[Cell]) -> dict[Cell, list[str]]:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(cell: Cell) -> list[str]:
        found = []
        for ending in ENDINGS:
            async with places, asyncio.timeout(_PLAYS_SECONDS):
                found += differences(cell, ending, await play(cell, ending))
        return found

    told = dict(zip(cells, await asyncio.gather(*(one(cell) for cell in cells)), strict=True))
    told[cells[-1]] += [f"the loop complains: {complaint}" for complaint in complaints]
    return told


def test_the_table_speaks_of_every_fault_once() -> None:
    """No fault without a line, no line without a fault, and enough of both."""
    for phase, faults in FAULTS.items():
        assert sorted(name for names in EXPECTED[phase].values() for name in names) == sorted(faults)
    assert set(EXPECTED) == set(FAULTS)
    assert sum(impossible(cell) is None for cell in all_cells()) > 1_000


LONGEST = (
    "request's head",
    "reply's head",
    "reply's body",
    "reply without a word, not paid",
    "reply without a word, paid",
)
"""Phases whose cells the long run plays."""


@pytest.mark.parametrize(
    ("phase", "transport"),
    [
        pytest.param(
            phase, transport, marks=LONG if phase in LONGEST or (transport == "TLS" and phase != "TLS") else ()
        )
        for phase in FAULTS
        for transport in TRANSPORTS
        if (phase, transport) != ("TLS", "plain")
    ],
)
def test_no_outcome_told_contradicts_the_truth(phase: Phase, transport: Transport) -> None:
    """Whatever strikes: the attempt proves what the table says, the outcome told is the truth, and nothing is paid twice."""
    cells = [cell for cell in all_cells() if (cell.phase, cell.transport, cell.path) == (phase, transport, "pool")]
    played = play_all([cell for cell in cells if impossible(cell) is None])

    assert [one for found in played.values() for one in found] == []


@pytest.mark.parametrize("phase", [phase for phase in FAULTS if phase != "idle connection"])
def test_it_is_the_same_through_the_public_interface_of_aiohttp(phase: Phase) -> None:
    """The first attempt over the simplest transport; `python -m tests.proof.simulation.matrix` plays the others as well."""
    transport = "TLS" if phase == "TLS" else "plain"
    chosen = (phase, "first", transport, "public")
    cells = [cell for cell in all_cells() if (cell.phase, cell.attempt, cell.transport, cell.path) == chosen]

    assert [one for found in play_all(cells).values() for one in found] == []


def test_a_journal_that_outlives_its_process_believes_a_refusal_at_once() -> None:
    """Every whole reply to a first attempt, written down durably: a refusal needs no look-up, and nothing else changes."""
    cells = [Cell("reply", name, "first", "plain") for name in FAULTS["reply"]]

    async def story() -> list[str]:
        found = []
        for cell in cells:
            for ending in ENDINGS:
                seen = await play(cell, ending, is_durable=True)
                proof, truth = expected(cell)
                told = "rejected" if proof == "rejected" else ENDS[proof, truth, ending][0]
                found += [
                    *seen.wrong,
                    *([] if seen.told == told else [f"{cell} | {ending}: told {seen.told}, not {told}"]),
                ]
        return found

    assert run(story()) == []
