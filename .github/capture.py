"""Draw `.github/demo.svg` from a real run of `alphapo demo` in a real terminal: `python .github/capture.py`."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, LINES = 110, 60
_NAMES = {"brown": "yellow"}
TARGET = Path(__file__).with_name("demo.svg")


def _screen(command: list[str]) -> pyte.Screen:
    """Run a command in a terminal and return what it shows at the end."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        try:
            while read := os.read(ours, 65_536):
                stream.feed(read)
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return screen


def _line(screen: pyte.Screen, number: int) -> Text:
    told, row = Text(), screen.buffer[number]
    for (colour, bold), chars in groupby(
        (row[column] for column in range(COLUMNS)), key=lambda one: (one.fg, one.bold)
    ):
        told.append("".join(char.data for char in chars), Style(color=_colour(colour), bold=bold))
    told.rstrip()
    return told


def _colour(name: str) -> str | None:
    """Return what rich calls a colour of the terminal."""
    if name == "default":
        return None
    return f"#{name}" if len(name) == len("00ff00") and set(name) <= set("0123456789abcdef") else _NAMES.get(name, name)


def main() -> None:
    """Run, and draw."""
    screen = _screen([sys.executable, "-m", "alphapo_async", "demo"])
    lines = [_line(screen, number) for number in range(LINES)]
    while lines and not lines[-1].plain:
        lines.pop()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text("$ alphapo demo", style="bold"))
        for line in lines:
            console.print(line)
        TARGET.write_text(console.export_svg(title="alphapo demo"), encoding="utf-8")
    print(f"{TARGET}: {len(lines)} lines")  # noqa: T201 - a command prints


if __name__ == "__main__":
    main()
