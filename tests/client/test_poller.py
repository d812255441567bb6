"""A client that nobody closed may be collected anywhere, also in the middle of a write, and must not wait there."""

import subprocess
import sys

import pytest

ABANDON = """
import asyncio, gc, threading
import mdstore

async def abandon():
    await mdstore.connect_async("grpc://127.0.0.1:1")

asyncio.run(abandon())
gc.collect()
print(*(thread.name for thread in threading.enumerate()))
"""

SERVE = """
import asyncio, gc, threading
from mdstore.server.serving import grpc_serving
from mdstore.store.store import Store

async def serve():
    with Store.open("sqlite://") as store:
        async with grpc_serving(store, "127.0.0.1", 0):
            pass

asyncio.run(serve())
gc.collect()
print(*(thread.name for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("program", [ABANDON, SERVE], ids=["client", "server"])
def test_the_last_of_grpc_is_collected_without_waiting_for_its_thread(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    # Who takes the thread down waits for it.
    assert "_poll_wrapper" in done.stdout, done.stdout
