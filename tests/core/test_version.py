"""The release's number."""

from importlib.metadata import version

from alphapo_async.core.version import __version__


def test_it_is_the_one_in_the_metadata() -> None:
    """What a journal's history says is what pip says."""
    assert version("alphapo-async") == __version__
