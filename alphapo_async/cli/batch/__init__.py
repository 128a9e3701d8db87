"""`alphapo batch`, from the file to the final report.

`files` reads rows, `index` knows which line came first, `survey` decides what to do with each row, `run` does it, `results` and
`report` show the outcomes, and `command` puts them together.
"""

from alphapo_async.cli.batch.command import batch

__all__ = ["batch"]
