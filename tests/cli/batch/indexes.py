"""Indexes for tests that do not end them themselves."""

import weakref

from alphapo_async.cli.batch.index import Index


def new_index() -> Index:
    """Return one whose file is closed with it: what nobody closes is a warning from Python 3.13 on."""
    index = Index()
    weakref.finalize(index, index._connection.close)
    return index
