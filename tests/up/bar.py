"""A supervisor with a child that shows a progress bar while another one keeps talking; then it stops itself."""

import asyncio
import os
import signal
import sys

from mdstore.cli.console import Console
from mdstore.cli.supervisor import Supervisor
from mdstore.services import Service

TALK = "import time\nwhile True: print('and so on', flush=True); time.sleep(0.01)"
BAR = (
    "import time, sys\n"
    "from rich.progress import track\n"
    "for _ in track(range(10), 'Replaying'): time.sleep(0.05)\n"
    "sys.exit(3 if sys.stdout.isatty() else 4)"
)


async def main() -> int:
    console = Console(["chatty", "bar"])
    chatty = Service(name="chatty", arguments=("-c", TALK), ready_line="and so on")
    supervisor = Supervisor([chatty], command=[sys.executable], console=console, environment=os.environ)

    async def opened() -> None:
        code = await supervisor.run_once(Service(name="bar", arguments=("-c", BAR)), on_terminal=True)
        console.say(f"ended with {code}")
        os.kill(os.getpid(), signal.SIGTERM)

    return await supervisor.run(opened)


sys.exit(asyncio.run(main()))
