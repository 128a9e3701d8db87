"""Files as real programs write them, with made-up data, and what a dry run says of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.survey import Sifter
from alphapo_async.core.codec import plain
from alphapo_async.core.errors import ConfigurationError
from tests.support.indexes import new_index

FOLDER: Final = Path(__file__).with_name("files_as_written")
EXPECTED: Final[dict[str, Any]] = json.loads(FOLDER.joinpath("expected.json").read_text(encoding="utf-8"))


def dry_run(path: Path) -> dict[str, Any]:
    """Return what `alphapo batch --dry-run` says of a file: its exit code, what would be paid, and every problem."""
    problems: list[str] = []
    try:
        survey = Sifter(InputFile(path, read_lines), new_index(), "number").survey(problems.append)
    except ConfigurationError as error:
        return {"exit_code": 2, "refused": str(error)}
    to_pay = {currency: plain(figure) for currency, figure in survey.to_pay.items()}
    is_clean = not (survey.invalid or survey.conflict)
    return {"exit_code": 0 if is_clean else 1, "rows": survey.rows, "to_pay": to_pay, "problems": problems}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_dry_run_says_what_is_expected(name: str) -> None:
    """Exact amounts of exact rows, or a sentence that names the cause."""
    assert dry_run(FOLDER / name) == EXPECTED[name]


def test_every_file_has_an_expected_result() -> None:
    """And there are at least forty of them."""
    names = {path.name for path in FOLDER.iterdir()} - {"expected.json"}
    assert names == EXPECTED.keys()
    assert len(names) >= 40
