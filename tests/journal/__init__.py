"""Tests of the journals."""

import pytest

pytest.register_assert_rewrite("tests.journal.suite")
