"""These tests are collected only where the extra `engines` is installed: `nox -s engines` does that."""

from importlib.util import find_spec

_NEEDED = {"test_temporal.py": ("temporalio",), "test_django.py": ("django",), "test_celery.py": ("celery",)}

collect_ignore = [name for name, modules in _NEEDED.items() if None in map(find_spec, modules)]
