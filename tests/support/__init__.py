"""What tests of several folders share."""

import pytest

pytest.register_assert_rewrite("tests.support.journal_suite")
