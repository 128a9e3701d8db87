"""What is opened for a test is closed after it."""

from collections.abc import Iterator

import pytest

from tests.support.indexes import close_indexes


@pytest.fixture(autouse=True)
def closed_indexes() -> Iterator[None]:
    """Close the indexes that the test has opened."""
    yield
    close_indexes()
