"""Indexes for tests that do not end them themselves."""

from alphapo_async.cli.batch.index import Index

_OPENED: list[Index] = []


def new_index() -> Index:
    """Return one that is closed when the test is over: what nobody closes is a warning from Python 3.13 on."""
    _OPENED.append(Index())
    return _OPENED[-1]


def close_indexes() -> None:
    """Close them, in the thread that opened them."""
    while _OPENED:
        _OPENED.pop().close()
