"""How many connections a process can afford."""

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.descriptors import RESERVED, affordable, free_descriptors


@given(st.integers(1, 1_000), st.none() | st.integers(-10, 10_000))
def test_there_is_always_a_connection_and_never_one_too_many(wanted: int, free: int | None) -> None:
    """What is reserved stays free, as far as it is there."""
    number = affordable(wanted, free)

    assert 1 <= number <= wanted
    assert free is None or number == 1 or number + RESERVED <= free
    assert free is not None or number == wanted


def test_an_open_file_is_one_descriptor_less() -> None:
    """Counted as the system lists them."""
    before = free_descriptors()
    assert before is not None
    with Path(os.devnull).open():
        assert free_descriptors() == before - 1


def test_without_a_descriptor_for_the_listing_there_is_none() -> None:
    """The listing itself needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        free = free_descriptors()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert free == 0


@pytest.mark.parametrize(("limit", "folders"), [(None, ("/proc/self/fd",)), (100, ("/nowhere", "/nowhere/else"))])
def test_what_the_system_does_not_say_is_not_known(limit: int | None, folders: tuple[str, ...]) -> None:
    """No limit, or no list of what is open."""
    assert free_descriptors(lambda: limit, folders) is None
