"""ClientContext: what a client was made with, as all its parts read it: account, keys, limits, URLs and runtime."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from alphapo_async.core.codec import AmountFormat
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Assumptions
from alphapo_async.core.signer import Signer
from alphapo_async.engine.clock import BoundedClock
from alphapo_async.engine.lease import MARGIN

__all__ = ["ACCOUNTS", "ClientContext", "Runtime", "host_of"]

ACCOUNTS: Final = "/api/v2/accounts/list"


class Runtime(msgspec.Struct, frozen=True):
    """Time, randomness, sleep and a lease's margin, handed in."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    chance: Callable[[], float]
    """A draw from 0 to 1."""
    sleep: Callable[[float], Awaitable[None]]
    lease_margin: float = MARGIN
    """Seconds that a lease must outlast an attempt: a worker that stalls for less loses no lease."""


class ClientContext:
    """What a client was made with. The parts of a client get it; none changes it.

    Args:
        account: your name for the merchant account.
        base_url: where AlphaPo is asked.
        signers: of all keys, by fingerprint; the first one signs new bodies.
        policy: how long and how often one withdrawal is tried.
        runtime: this machine's clock, randomness and sleep.
        clock: the clock that all workers of the journal agree on.
        amount_format: how amounts are written.
    """

    def __init__(
        self,
        *,
        account: str,
        base_url: str,
        signers: Mapping[str, Signer],
        policy: RetryPolicy,
        runtime: Runtime,
        clock: BoundedClock,
        amount_format: AmountFormat = "number",
    ) -> None:
        self.account = account
        self.base_url = base_url
        self.withdrawal_url = f"{base_url}/api/v2/withdrawal/crypto"
        self.look_up_url = f"{base_url}/api/v2/transactions/info"
        self.signers = signers
        self.signer = next(iter(signers.values()))
        self.policy = policy
        self.assumptions = Assumptions(policy.resend_within, policy.quiet, policy.attempt_timeout, policy.refresh_after)
        self.runtime = runtime
        self.clock = clock
        self.now = clock.earliest
        """Returns the seconds since the epoch by which a client judges and dates (`engine.clock`, rule 6)."""
        self.amount_format: AmountFormat = amount_format


def host_of(base_url: str) -> str:
    """Return what an account is bound to: the host's name; all of this machine's own are one."""
    host = urlsplit(base_url).hostname or ""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    return "loopback" if is_local else host
