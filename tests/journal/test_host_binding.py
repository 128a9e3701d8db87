"""One host for each account."""

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal.host_binding import check_host


def test_the_same_host_passes() -> None:
    """Any number of times."""
    check_host("default", "app.alphapo.net", "app.alphapo.net")


def test_another_host_is_refused() -> None:
    """With the account, both hosts and what to do."""
    with pytest.raises(ConfigurationError) as caught:
        check_host("default", "loopback", "app.alphapo.net")
    for word in ("'default'", "'loopback'", "'app.alphapo.net'", "another journal"):
        assert word in str(caught.value)
