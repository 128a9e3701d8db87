"""A short run of the followed file: `python -m tests.proof.following` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.proof.following import follow


async def test_a_file_is_followed_until_every_line_is_complete(tmp_path: Path) -> None:
    """Off the blockchain, with conversions, and with rows that are cancelled and declined later; the ledger agrees with each line."""
    followed = await follow(tmp_path, 40, "internal", faults="none", settle_after=0.3)
    assert (followed.wrong, followed.doubled, followed.code, followed.runs) == ([], 0, 1, 1)
    assert followed.statuses == {"confirmed": 36, "cancelled": 2, "declined": 2}
