"""Names for withdrawals that have no name of their own: derived: the same step gets the same name each time."""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import UUID

from alphapo_async.core.errors import InvalidRequest

__all__ = ["derive_foreign_id"]

_DIGITS: Final = 40
"""160 bits: no two of anybody's payments will ever share them."""


def derive_foreign_id(*parts: str | int | UUID) -> str:
    """Return a foreign_id for what these parts name together: the same for the same parts, in every process and release.

    For durable engines and queues, which repeat a step: name the payment as your own books do, such as `("refund", refund)`. Never take
    chance, time or the number of the try for a part, and never the run id or activity id of an engine: a workflow that is retried, reset or
    continued as new has others, and each would be another payment.

    Args:
        parts: one or more; a number is the same as its digits, a UUID the same as its text. `("a", "bc")` and `("ab", "c")` differ.

    Returns:
        40 hexadecimal digits.

    Raises:
        InvalidRequest: there are no parts, or one is empty or of another kind.
    """
    if not parts:
        raise InvalidRequest({"parts": "are missing: name the payment, as your own books do."})
    digest = hashlib.sha256()
    for part in parts:
        is_named = isinstance(part, int | UUID) and not isinstance(part, bool)
        text = (str(int(part)) if isinstance(part, int) else str(part)) if is_named else part
        if not isinstance(text, str) or not text:
            raise InvalidRequest(
                {"parts": f"must be text, numbers or UUIDs, and not empty; one is {type(part).__name__}."}
            )
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(encoded))
        digest.update(encoded)
    return digest.hexdigest()[:_DIGITS]
