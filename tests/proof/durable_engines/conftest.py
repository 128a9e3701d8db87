"""The tests of durable engines are collected only where the extra `engines` is installed: `nox -s engines` does that."""

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("dbos") is None or find_spec("temporalio") is None else []
