"""Turns are taken in order, and none is lost, whoever gives up."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mdstore.server.turns import Turns

WAITERS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=30)


@given(WAITERS, st.integers(1, 3), st.integers(0, 3))
@settings(deadline=None)  # a busy machine takes its time
def test_no_turn_is_lost_when_some_give_up(waiters: list[tuple[str, bool]], count: int, pauses: int) -> None:
    async def run() -> Counter[str]:
        turns = Turns(count)
        went: Counter[str] = Counter()
        running = 0

        async def work(client: str) -> None:
            nonlocal running
            async with turns.turn(client):
                running += 1
                try:
                    assert running <= count
                    went[client] += 1
                    await asyncio.sleep(0)
                finally:
                    running -= 1

        tasks = [asyncio.create_task(work(client)) for client, _ in waiters]
        for _ in range(pauses):
            await asyncio.sleep(0)
        for task, (_, gives_up) in zip(tasks, waiters, strict=True):
            if gives_up:
                task.cancel()
        for outcome in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        # All turns are free again, at the same time.
        together = asyncio.Barrier(count)

        async def meet() -> None:
            async with turns.turn("d"):
                await together.wait()

        await asyncio.wait_for(asyncio.gather(*(meet() for _ in range(count))), 5)
        return went

    went = asyncio.run(run())
    assert Counter(client for client, gives_up in waiters if not gives_up) <= went
    assert went <= Counter(client for client, _ in waiters)


def test_a_client_with_few_goes_before_the_rest_of_one_with_many() -> None:
    async def run() -> list[str]:
        turns = Turns(1)
        order: list[str] = []

        async def work(client: str) -> None:
            async with turns.turn(client):
                order.append(client)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(client) for client in "aaaaaabbc"))
        return order

    assert "".join(asyncio.run(run())) == "aabcabaaa"
