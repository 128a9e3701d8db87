"""What errors say to somebody who types a command: what to do with a row, an option, a variable, and nothing in Python. Pure."""

from __future__ import annotations

import re
from typing import Final

from alphapo_async.core.errors import AlphapoError, JournalError

__all__ = ["spoken", "spoken_problem"]

_PROBLEMS: Final = (
    (r"; make the client with amount_format=\"string\"\.", ": pass --amount-format string."),
    (
        r"; send an internal id, or set allow_personal_reference=True\.",
        "; give an internal id, or a column allow_personal_reference with true.",
    ),
    (
        r"without_tag=True says that none is wanted\.",
        "if none is wanted, write true in a column without_tag, or leave a column tag empty and pass --no-tag.",
    ),
    (r"must be text, not \w+\.", "must be text in quotes."),
    (r"must be a Decimal, str or int, not \w+\.", "must be a number, or one in quotes."),
    (r"must be a mapping, not \w+\.", "must be a JSON object."),
)
_STEPS: Final = {
    "rejected": "Correct the row, or release the funds; --retry-rejected sends it again as it is.",
    "not_sent": "Run the same command again, or release the funds.",
    "unknown": "Keep it pending: do not refund it and do not pay it under a new foreign_id. Running the same command again is safe and "
    "looks it up.",
    "key_refused": "Check ALPHAPO_KEY, ALPHAPO_SECRET, the host and the key's IP allowlist, then run the same command again.",
    "journal": "Run the same command again once the journal works.",
}


def spoken_problem(text: str) -> str:
    """Return what is wrong with a field, in the words of the command."""
    for pattern, words in _PROBLEMS:
        text = re.sub(pattern, words, text)
    return text


def spoken(error: AlphapoError) -> str:
    """Return what an error says, and what to do in the words of the command.

    Args:
        error: of a row, or of the whole run.
    """
    step = str(getattr(error, "next_step", ""))
    kind = "journal" if isinstance(error, JournalError) else str(getattr(error, "outcome", ""))
    return f"{str(error).removesuffix(step).rstrip()} {_STEPS.get(kind, step)}".rstrip()
