"""Tests of the journals."""

import pytest

pytest.register_assert_rewrite("tests.support.journal_suite")
