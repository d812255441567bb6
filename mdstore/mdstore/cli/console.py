"""What `mdstore up` shows: its own words on stdout, and each child's output on stderr behind the child's name."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

import typer

COLORS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


class Console:
    """Two streams, written line by line from one event loop."""

    def __init__(self, names: Sequence[str], *, words: TextIO | None = None, output: TextIO | None = None) -> None:
        """Know the children's names, in the order of their colors."""
        self._words = sys.stdout if words is None else words
        self._output = sys.stderr if output is None else output
        self._width = max(map(len, names), default=0)
        self._colors = {name: COLORS[at % len(COLORS)] for at, name in enumerate(names)}
        self._held: list[str] | None = None

    @property
    def is_terminal(self) -> bool:
        """A person is watching the children's output."""
        return self._output.isatty()

    @property
    def has_colors(self) -> bool:
        """Colors are shown and wanted (https://no-color.org)."""
        return self.is_terminal and not os.environ.get("NO_COLOR")

    def say(self, text: str) -> None:
        """Words of our own."""
        _write(self._words, f"{text}\n")

    def warn(self, text: str) -> None:
        """Something went wrong; never held back."""
        line = f"mdstore: {text}"
        _write(self._output, (typer.style(line, fg="red", bold=True) if self.has_colors else line) + "\n")

    def child(self, name: str, line: str) -> None:
        """A line that a child printed."""
        prefix = f"{name:<{self._width}} |"
        if self.has_colors:
            prefix = typer.style(prefix, fg=self._colors.get(name, "white"))
        if self._held is None:
            _write(self._output, f"{prefix} {line}\n")
        else:
            self._held.append(f"{prefix} {line}\n")

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep the children's lines back, so that they do not run through a progress bar."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            _write(self._output, "".join(held))


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        # `mdstore up | head`, a terminal that was closed, a full disk: nobody reads us, the services go on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
