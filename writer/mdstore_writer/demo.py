"""Recorded events to try the system with: real workflows on a real cluster (`examples/README.md`).

In the source they are links into `examples/`; a distribution holds the files.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

STORIES: Final = ("story", "kfp-lineage-demo")


def directories() -> list[Path]:
    """The folders of the demo."""
    root = Path(str(files("mdstore_writer"))) / "examples"
    return [root / story for story in STORIES]
