"""Lets the tests import `bench`, which is no distribution and stands beside them.

At the end of the path: the folders there that are called like packages must not hide them.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
