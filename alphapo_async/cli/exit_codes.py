"""Exit codes, and the sentences of errors. Pure."""

from __future__ import annotations

import contextlib
import errno
import traceback
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import PurePath
from typing import Final

from alphapo_async.cli.messages import AN_EARLIER_CALL, CHECK_THE_KEY, advice, happened, is_key_refused, option_problem
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    WithdrawalError,
)
from alphapo_async.journal.messages import DATABASE, FILE

__all__ = ["Exit", "code_of", "code_of_error", "explain", "nothing_sent", "worst_of"]


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    ALL_ACCEPTED = 0
    REFUSED = 1
    """Something was refused, failed, invalid or conflicting; a question was answered with no."""
    WRONG = 2
    """Wrong usage, input or configuration. To run again does not help: wins over `UNKNOWN` where a command meets both."""
    UNKNOWN = 3
    """Something is unknown or was not sent: run again. Wins over `REFUSED`. Also a foreign_id that the journal does not have."""
    KEY_REFUSED = 4
    """AlphaPo does not accept the key or the signature. Wins over everything."""


_CODES = {
    "accepted": Exit.ALL_ACCEPTED,
    "failed": Exit.REFUSED,
    "rejected": Exit.REFUSED,
    "conflict": Exit.REFUSED,
    "invalid": Exit.REFUSED,
    "not_sent": Exit.UNKNOWN,
    "unknown": Exit.UNKNOWN,
    "key_refused": Exit.KEY_REFUSED,
}


def code_of(outcomes: Iterable[str]) -> Exit:
    """Return the exit code for these outcomes; an outcome that is not in the table counts as unknown."""
    return max((_CODES.get(outcome, Exit.UNKNOWN) for outcome in outcomes), default=Exit.ALL_ACCEPTED)


def worst_of(codes: Iterable[Exit]) -> Exit:
    """Return the exit code of a command that makes several checks, at least one."""
    return max(codes, key=lambda code: (code is Exit.KEY_REFUSED, code is Exit.WRONG, code))


def code_of_error(error: WithdrawalError | JournalError) -> Exit:
    """Return the exit code for this error; a row that stays open because of a refused key counts as key refused."""
    return Exit.KEY_REFUSED if is_key_refused(error) else code_of([error.outcome])


def explain(error: Exception) -> tuple[list[str], Exit]:
    """Return the lines about an error, and the exit code."""
    match error:
        case InvalidRequest():
            problems = [
                f"  --{field.replace('_', '-')} {option_problem(text)}" for field, text in error.problems.items()
            ]
            return ["The withdrawal request is not valid, nothing was sent.", *problems], Exit.WRONG
        case JournalError() if error.foreign_id is None:
            return [error.detail], Exit.UNKNOWN if _is_passing(error) else Exit.WRONG
        case WithdrawalError() | JournalError():
            return _explain_withdrawal(error), code_of_error(error)
        case AlphapoUnavailable() if error.is_key_refused:
            return [str(error), f"{CHECK_THE_KEY}."], Exit.KEY_REFUSED
        case AlphapoError():
            return [str(error)], Exit.WRONG if isinstance(error, ConfigurationError) else Exit.UNKNOWN
        case _:
            return [_unexpected(error)], Exit.UNKNOWN


_PASSING = [message.text.partition("{")[0] for message in (*FILE.values(), *DATABASE.values()) if message.is_passing]
"""What is wrong with a journal where the same command may do another time; the rest is for the operator to change."""


def _is_passing(error: JournalError) -> bool:
    return any(words in error.detail for words in _PASSING)


@contextlib.contextmanager
def nothing_sent(foreign_id: str | None = None) -> Iterator[None]:
    """Add "nothing was sent" to errors of a journal; the block must send nothing.

    Args:
        foreign_id: of the only withdrawal concerned.

    Raises:
        JournalError: with that sentence.
    """
    try:
        yield
    except JournalError as error:
        if error.foreign_id is not None:
            raise
        detail = error.detail.removesuffix("Nothing was sent.").rstrip()
        text = f"{detail} Nothing was sent."
        if foreign_id is not None:
            keep = "" if error.recorded is False else f" {AN_EARLIER_CALL}"
            text = f"Withdrawal {foreign_id!r}: nothing was sent by this call. {detail}{keep}"
        raise JournalError(text, recorded=error.recorded) from None


def _explain_withdrawal(error: WithdrawalError | JournalError) -> list[str]:
    return [
        happened(error),
        f"may release funds: {'yes' if error.may_release_funds else 'no'}",
        f"next step: {advice(error)}",
    ]


_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _unexpected(error: Exception) -> str:
    """Return a sentence with kind and place of the error, without its text, which may contain secrets."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
        # Of an output. Those of commands that move money never fail, and errors of journals and results files name these.
        return f"The output cannot be written ({error.strerror}): run the same command again."
    last = next(reversed(traceback.extract_tb(error.__traceback__)), None)
    place = "" if last is None else f" in {PurePath(last.filename).name}, line {last.lineno}"
    return (
        f"alphapo failed with an internal error ({type(error).__name__}{place}). If a withdrawal was under way, AlphaPo may "
        "have it: keep it pending, and call again with the same request."
    )
