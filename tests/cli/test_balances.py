"""`alphapo balances`, against a real sandbox."""

from __future__ import annotations

import json

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from tests.cli.conftest import Local, invoke


def test_balances_are_shown_and_those_at_zero_are_counted() -> None:
    """As a table, or as JSON with plain decimals."""
    with RunningSandbox(balances={"BTC": "0.00000001", "ETH": 0}) as sandbox:
        result = invoke("balances", **sandbox.environment)
        assert result.exit_code == 0
        assert "│ BTC      │ 0.00000001 │" in result.output
        assert "ETH" not in result.output
        assert result.output.endswith("1 more at zero: --all shows them.\n")
        every = invoke("balances", "--all", **sandbox.environment)
        assert "ETH" in every.output
        assert "at zero" not in every.output
        as_json = json.loads(invoke("balances", "--all", "--json", **sandbox.environment).output)
        assert as_json == {"balances": {"BTC": {"amount": "0.00000001"}, "ETH": {"amount": "0.00000000"}}}


def test_a_refused_key_has_exit_code_4_and_silence_3(local: Local) -> None:
    """With a sentence on standard error."""
    result = local.invoke("balances", ALPHAPO_SECRET="another")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "does not accept the key" in result.stderr
    assert local.invoke("balances", "--base-url", "http://127.0.0.1:9").exit_code == 3
