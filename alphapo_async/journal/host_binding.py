"""One host for each account: what a sandbox accepted must never answer for production."""

from __future__ import annotations

from alphapo_async.core.errors import ConfigurationError

__all__ = ["check_host"]


def check_host(account: str, bound: str, host: str) -> None:
    """Pass if the account belongs to this host.

    Raises:
        ConfigurationError: it belongs to another.
    """
    if bound != host:
        raise ConfigurationError(
            f"Account {account!r} belongs to {bound!r} in this journal, not to {host!r}: what one host accepted must never answer for "
            "another. Name another account, or another journal. Nothing was sent."
        )
