"""Runs services as child processes: in order, kept running, and all stopped together.

One event loop. A child that dies is started again, after a pause that grows while it keeps dying; the others go on. A
signal (Ctrl-C, SIGTERM, SIGHUP) stops all, those that depend on others first, in less than three seconds; a second one
kills them. When the supervisor itself is killed, its children end by themselves (see `lifeline`).
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from mdstore.cli.child import Child, how_it_ended
from mdstore.cli.console import Console
from mdstore.cli.exits import CANNOT_START, CannotStart
from mdstore.services import Service

READY_S: Final = 60.0
STARTS: Final = 4
"""A service that has died so many times without being ready once will not come up."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
STEADY_S: Final = 2.0
"""A child that has run so long did not die of its start: the pause before it is started again is the first one."""
STEP_S: Final = 0.6
"""So long the stopping waits for the services that depend on others before it goes on to those others."""
KILL_AFTER_S: Final = 2.0
"""What has not ended by then is killed."""


class Supervisor:
    """Child processes that belong together."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        command: Sequence[str],
        console: Console,
        environment: Mapping[str, str],
        keep_open: Sequence[int] = (),
        ready_s: float = READY_S,
    ) -> None:
        """Say what to run.

        Args:
            services: each is started when those that it names in `after` are ready.
            command: the program that a service's arguments are for.
            console: where output and events are shown.
            environment: the children's variables.
            keep_open: file descriptors that every child inherits.
            ready_s: a service that is not ready by then is killed, as if it had died.

        Raises:
            CannotStart: the order is not one.
        """
        self._console = console
        self._environment = environment
        self._command = tuple(command)
        self._keep_open = tuple(keep_open)
        self._ready_s = ready_s
        self._steps = tuple(_steps(services))
        self._children = {service.name: self._child(service) for service in services}
        self._ready = {service.name: asyncio.Event() for service in services}
        self._once: set[Child] = set()
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()
        self._signal: signal.Signals | None = None
        self.restarts = 0
        """How often a child was started again."""

    async def run(self, when_ready: Callable[[], Awaitable[None]]) -> int:
        """Start everything, call `when_ready` once, and keep all running until a signal comes.

        Returns:
            The exit code: 0, or 128 and the signal's number when a service was not yet ready or something that ends
                by itself had not ended.

        Raises:
            CannotStart: a service cannot start; the others are stopped again.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # One that is ignored stays so: that is how nohup and a shell's `&` protect what they start.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._signalled, number)
        keepers = {asyncio.create_task(self._keep(child)) for child in self._children.values()}
        opening = asyncio.create_task(self._open(when_ready))
        stop = asyncio.create_task(self._stop.wait())
        tasks = {*keepers, opening, stop}
        pending = tasks
        try:
            while not stop.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # raises what ended it
        finally:
            is_open = all(event.is_set() for event in self._ready.values()) and not self._once
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
        return 0 if is_open or self._signal is None else 128 + self._signal

    async def run_once(self, service: Service, *, on_terminal: bool) -> int:
        """Run something that ends by itself beside the services; its exit code, or minus a signal's number.

        Args:
            service: what to run.
            on_terminal: it writes to the terminal itself, and the others' output waits until it has ended.
        """
        child = self._child(service)
        self._once.add(child)
        with self._console.holding() if on_terminal else contextlib.nullcontext():
            await child.start(self._environment, on_terminal=on_terminal)
            child.go()
            code = await child.ended()
        self._once.discard(child)
        return code

    def _child(self, service: Service) -> Child:
        return Child(service, command=self._command, console=self._console, keep_open=self._keep_open)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._kill.set()
            return
        self._signal = number
        self._console.say("stopping")
        self._stop.set()

    async def _open(self, when_ready: Callable[[], Awaitable[None]]) -> None:
        for event in self._ready.values():
            await event.wait()
        await when_ready()

    async def _keep(self, child: Child) -> None:
        name = child.service.name
        starts = quick_deaths = 0
        while True:
            await child.start(self._environment)
            code = await self._watch(child)
            quick_deaths = 0 if time.monotonic() - child.started_at >= STEADY_S else quick_deaths + 1
            if not self._ready[name].is_set():
                starts += 1
                if code == CANNOT_START or starts == STARTS:
                    raise CannotStart(f"{name} cannot start: it {how_it_ended(code)}")
            pause = min(FIRST_PAUSE_S * 2**quick_deaths, LONGEST_PAUSE_S)
            self._console.warn(f"{name} {how_it_ended(code)}; it is started again in {pause:.1f} s")
            await asyncio.sleep(pause)
            self.restarts += 1

    async def _watch(self, child: Child) -> int:
        """See the child through: let it begin, note when it is ready; its exit code."""
        beginning = asyncio.create_task(self._begin(child))
        try:
            return await child.ended()
        finally:
            beginning.cancel()

    async def _begin(self, child: Child) -> None:
        for dependency in child.service.after:
            await self._ready[dependency].wait()
        child.go()
        try:
            async with asyncio.timeout(self._ready_s):
                await child.ready()
        except TimeoutError:
            self._console.warn(f"{child.service.name} is not ready after {self._ready_s:.0f} s and is killed")
            child.kill()
        else:
            self._ready[child.service.name].set()

    async def _end(self) -> None:
        """Stop every child: asked first, dependants before what they depend on; then killed."""
        deadline = time.monotonic() + KILL_AFTER_S
        for step in ((*self._once,), *([self._children[name] for name in names] for names in reversed(self._steps))):
            for child in step:
                child.terminate()
            await self._until_ended(step, min(STEP_S, deadline - time.monotonic()))
        everyone = [*self._once, *self._children.values()]
        await self._until_ended(everyone, deadline - time.monotonic())
        for child in everyone:
            if child.is_running:
                self._console.warn(f"{child.service.name} did not stop and is killed")
                child.kill()
        for child in everyone:
            if child.is_running:
                await child.ended()

    async def _until_ended(self, children: Sequence[Child], seconds: float) -> None:
        """Wait until all have ended, the time is over, or a second signal comes."""
        ending = asyncio.gather(*(child.ended() for child in children if child.is_running))
        killed = asyncio.ensure_future(self._kill.wait())
        both: tuple[asyncio.Future[Any], ...] = (ending, killed)
        await asyncio.wait(both, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        for waiting in both:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting


def _steps(services: Sequence[Service]) -> Iterator[tuple[str, ...]]:
    """Names of services that may start together, in order."""
    names = {service.name for service in services}
    if len(names) != len(services):
        raise CannotStart(f"two services have one name: {sorted(service.name for service in services)}")
    for service in services:
        if unknown := set(service.after) - names:
            raise CannotStart(f"the service {service.name} comes after {sorted(unknown)}, which is not installed")
    order = TopologicalSorter({service.name: service.after for service in services})
    try:
        order.prepare()
    except CycleError as error:
        raise CannotStart(f"services wait for each other: {error.args[1]}") from error
    while order.is_active():
        step = order.get_ready()
        yield tuple(sorted(step))
        order.done(*step)
