"""What a client was made with."""

import asyncio

import pytest

from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.signer import Signer
from alphapo_async.engine.clock import BoundedClock
from alphapo_async.engine.context import ClientContext, Runtime, host_of


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://app.alphapo.net", "app.alphapo.net"),
        ("http://127.0.0.1:8080", "loopback"),
        ("http://[::1]:8080", "loopback"),
        ("http://localhost", "loopback"),
        ("https://10.0.0.7", "10.0.0.7"),
    ],
)
def test_an_account_is_bound_to_the_host_s_name(base_url: str, host: str) -> None:
    """Whatever the port; this machine's own names are one."""
    assert host_of(base_url) == host


def test_a_context_has_the_first_key_the_urls_and_what_is_assumed_of_alphapo() -> None:
    """Worked out once, when a client is made."""
    current, old = Signer("new", "secret"), Signer("old", "secret")
    context = ClientContext(
        account="shop",
        base_url="https://app.alphapo.net",
        signers={one.fingerprint: one for one in (current, old)},
        policy=RetryPolicy(quiet=60.0),
        runtime=Runtime(lambda: 8.0, lambda: 0.5, asyncio.sleep),
        clock=BoundedClock(lambda: 7.0),
    )
    assert context.signer is current
    assert context.now() == 7.0
    assert context.withdrawal_url == "https://app.alphapo.net/api/v2/withdrawal/crypto"
    assert context.look_up_url == "https://app.alphapo.net/api/v2/transactions/info"
    assert (context.assumptions.quiet, context.amount_format) == (60.0, "number")
