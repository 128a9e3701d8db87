"""`alphapo batch`, from the file to the final report.

`files` and `sheets` read rows, `index` knows which line came first, `sifting` says what is to be done with each row, `paying` has it done,
`results` and `report` say what became of it, and `command` puts them together.
"""

from alphapo_async.cli.batch.command import batch

__all__ = ["batch"]
