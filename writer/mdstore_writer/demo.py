"""Recorded events to try the system with: real workflows on a real cluster (`examples/README.md`)."""

from importlib.resources import files
from pathlib import Path
from typing import Final

STORIES: Final = ("story", "kfp-lineage-demo")


def directories() -> list[Path]:
    """The folders of the demo: in the checkout, else in what was installed."""
    checkout = Path(__file__).resolve().parents[2] / "examples"
    root = checkout if checkout.is_dir() else Path(str(files("mdstore_writer") / "examples"))
    return [root / story for story in STORIES]
