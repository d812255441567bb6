"""Tables of figures with goals beside them, for a terminal and for a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and what it should reach or not exceed."""

    value: float | None
    """None when there is none, as of a ratio to nothing."""
    at_least: float | None = None
    at_most: float | None = None
    digits: int = 2

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is; None when there is no goal or no number."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def __str__(self) -> str:
        """The number and its goal."""
        if self.value is None:
            return "-"
        text = f"{self.value:,.{self.digits}f}"
        if self.at_least is not None:
            text += f" (≥ {self.at_least:g})"
        if self.at_most is not None:
            text += f" (≤ {float(f'{self.at_most:.3g}'):g})"
        return text


Cell = str | Figure


@dataclass(slots=True, kw_only=True)
class Sheet:
    """One table, and what must be said about it."""

    title: str
    headings: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print it: goals that are met in green, misses in red."""
        table = Table(title=self.title, title_justify="left")
        for heading, cell in zip(self.headings, self.rows[0] if self.rows else self.headings, strict=False):
            table.add_column(heading, justify="right" if isinstance(cell, Figure) else "left")
        for row in self.rows:
            table.add_row(*(_coloured(cell) for cell in row))
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False, highlight=False)
        console.print()

    def markdown(self) -> str:
        """The same for a page; misses are bold."""
        lines = [f"### {self.title}", "", _line(self.headings), _line(["---"] * len(self.headings))]
        lines += [_line([_marked(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", *self.notes, ""])

    def as_json(self) -> dict[str, Any]:
        """For a file of results."""
        rows = [
            [
                {"value": cell.value, "at_least": cell.at_least, "at_most": cell.at_most, "digits": cell.digits}
                if isinstance(cell, Figure)
                else cell
                for cell in row
            ]
            for row in self.rows
        ]
        return {"title": self.title, "headings": list(self.headings), "rows": rows, "notes": self.notes}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Sheet":
        """From such a file."""
        rows = [[Figure(**cell) if isinstance(cell, dict) else cell for cell in row] for row in found["rows"]]
        return cls(title=found["title"], headings=found["headings"], rows=list(rows), notes=found["notes"])


def _coloured(cell: Cell) -> str:
    if isinstance(cell, Figure) and cell.is_met is not None:
        return f"[{'green' if cell.is_met else 'red'}]{cell}[/]"
    return str(cell).replace("[", r"\[")


def _marked(cell: Cell) -> str:
    return f"**{cell}**" if isinstance(cell, Figure) and cell.is_met is False else str(cell)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
