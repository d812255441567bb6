"""Runs a script in the judge's environment: the public `ml_metadata` client, against a server of ours.

The judge is a process of its own, because its message classes have the names of ours and need protobuf < 5. A script in
`scripts/` reads one JSON object from its standard input, with `host` and `port` of the server in it, and prints one.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import needs

SCRIPTS = Path(__file__).parent / "scripts"


def judge(script: str, *, port: int, **arguments: object) -> Mapping[str, Any]:
    """Run `scripts/<script>.py` against the server on loopback; returns what it printed.

    Raises:
        AssertionError: the script failed; with its traceback.
    """
    done = subprocess.run(
        [needs.judge_python(), "-I", SCRIPTS / f"{script}.py"],
        input=json.dumps({"host": "127.0.0.1", "port": port, **arguments}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: Mapping[str, Any] = json.loads(done.stdout)
    return result
