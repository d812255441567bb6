"""`mdstore.run`: what a pipeline step logs about itself.

One request when it begins, one when it ends, and between them one for what was logged, every few seconds when there is
something. Each is idempotent; those that the store does not take now are spooled (`steps.deliver`).
Nothing here makes a step fail unless it asks for that by `strict=True`.

Threads: a step may be used by several; a step that another thread begins is inside this one when it says `parent=`.
"""

import asyncio
import functools
import inspect
import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

from mdstore.client.client import Client
from mdstore.errors import MetadataError
from mdstore.steps import content, place, plain
from mdstore.steps.deliver import REFUSALS, Sender
from mdstore.steps.identity import identify
from mdstore.steps.notes import MOST, Notes, now_ms
from mdstore.steps.records import Changes, Identity, iso, request
from mdstore.values import JSON, ExecutionState
from mdstore.vocabulary import ARTIFACT, CONTAINER_EXECUTION, Property
from mdstore.wire import ingestion

log: Final = logging.getLogger("mdstore")

FLUSH_AFTER_S: Final = 5.0
"""What is logged later than so long after the last request is sent at once, with all that waits."""

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar["Step | None"] = ContextVar("mdstore_step", default=None)


def run(
    name: str,
    *,
    pipeline: str | None = None,
    store: str | Client | None = None,
    run_id: str | None = None,
    attempt: int | None = None,
    parent: "Step | None" = None,
    type: str = CONTAINER_EXECUTION,  # noqa: A002 (MLMD's word)
    parameters: Mapping[str, object] | None = None,
    strict: bool = False,
    timeout_s: float = 2.0,
) -> "Step":
    """A step: `with mdstore.run("train") as step: ...`, `async with`, or `@mdstore.run("train")` on a function.

    Args:
        name: of the step, the same each time that it runs.
        pipeline: what the run is a run of.
        store: its URL, or a client; else that of the step around this one, else `MDSTORE_STORE`.
        run_id: the run that the step is part of; else that of the step around this one, else `MDSTORE_RUN_ID`, else
            what Argo or Kubeflow Pipelines say, else a new one.
        attempt: which try of this step it is, from 0; else `MDSTORE_ATTEMPT`, else counted in this process. A step with
            the same run, name and attempt is the same step.
        parent: the step around this one; by default the one whose block this is in.
        type: of the execution.
        parameters: what the step was told, as `Step.log_parameter`.
        strict: raise when the store does not take what is logged, instead of keeping it for later.
        timeout_s: the most seconds that a step waits for the store, each time that it sends something.
    """
    return Step(
        name,
        pipeline=pipeline,
        store=store,
        run_id=run_id,
        attempt=attempt,
        parent=parent,
        type_name=type,
        parameters=dict(parameters or {}),
        is_strict=strict,
        timeout_s=timeout_s,
    )


class Step:
    """One step that logs what it uses, makes and measures. Made by `mdstore.run`."""

    def __init__(
        self,
        name: str,
        *,
        pipeline: str | None,
        store: str | Client | None,
        run_id: str | None,
        attempt: int | None,
        parent: "Step | None",
        type_name: str,
        parameters: dict[str, object],
        is_strict: bool,
        timeout_s: float,
    ) -> None:
        """Nothing is looked up and nothing is sent before the step begins."""
        self._given: Final = {
            "name": name,
            "pipeline": pipeline,
            "store": store,
            "run_id": run_id,
            "attempt": attempt,
            "parent": parent,
            "type_name": type_name,
            "parameters": parameters,
            "is_strict": is_strict,
            "timeout_s": timeout_s,
        }
        self.name: Final = name
        self._pipeline = pipeline
        self._store = store
        self._run_id = run_id
        self._attempt = attempt
        self._parent = parent
        self._type = type_name
        self._is_strict = is_strict
        self._timeout_s = timeout_s
        self._identity: Identity | None = None
        self._sender: Sender | None = None
        self._owns_sender = False
        self._defaults: dict[str, JSON] = {}
        self._run_defaults: dict[str, JSON] = {}
        self._notes = Notes(name, digest_s=timeout_s)
        self._inner: Counter[str] = Counter()
        """As `_begun`, of the steps inside this one."""
        self._flushed_at = 0.0
        self._is_inline = True
        self._is_over = False
        self._pid = 0
        """The process that began the step, and that alone ends it."""
        self._known_pid = os.getpid()
        """The process that `_notes` and `_inner` are of."""
        self._mark = ""
        """In a forked child, what tells the steps that it begins inside this one from those of others."""
        self._token: Token[Step | None] | None = None
        self._locks: dict[int, threading.RLock] = {}
        """By process."""
        with self._unfailing("its parameters"):
            self._notes.parameters(parameters)

    # What a step says

    @property
    def run_id(self) -> str | None:
        """The run that the step is part of, once it has begun."""
        return None if self._identity is None else self._identity.run

    @property
    def external_id(self) -> str | None:
        """What the step's artifacts are named after, once it has begun; mostly its execution's external id."""
        return None if self._identity is None else self._identity.base

    def input(
        self,
        name: str,
        uri: str | os.PathLike[str],
        *,
        type: str = ARTIFACT,  # noqa: A002 (MLMD's word)
        properties: Mapping[str, object] | None = None,
        digest: str | None = None,
    ) -> str:
        """Say that the step uses what is at a location; the store finds which version that is.

        Args:
            name: the input's, in this step.
            uri: where it is; a path becomes a `file://` URI.
            type: its type, and
            properties: what is known of it, in case that nobody has recorded it yet.
            digest: of what is there, as `sha256:<hex>`; computed for local files.

        Returns:
            The URI.
        """
        location = str(uri)
        with self._unfailing(f"input {name!r}"), self._alone():
            location = content.uri_of(uri)
            self._notes.use(name, location, type_name=type, properties=properties, digest=digest)
            self._flush_if_due()
        return location

    def output(
        self,
        name: str,
        uri: str | os.PathLike[str] | None = None,
        *,
        type: str = ARTIFACT,  # noqa: A002 (MLMD's word)
        properties: Mapping[str, object] | None = None,
        digest: str | None = None,
    ) -> str | None:
        """Say that the step made something. The same name and URI again add to it; another URI is another artifact.

        Args:
            name: the output's, in this step.
            uri: where it is; a path becomes a `file://` URI.
            type: its type: system.Model, system.Dataset, or one of your own.
            properties: what there is to know about it.
            digest: of what is there, as `sha256:<hex>`; computed for local files, at the step's end if they are not
                there yet.

        Returns:
            The URI.
        """
        location = None if uri is None else str(uri)
        with self._unfailing(f"output {name!r}"), self._alone():
            location = None if uri is None else content.uri_of(uri)
            self._notes.output(name, location, type_name=type, properties=properties, digest=digest)
            self._flush_if_due()
        return location

    def log_metric(self, name: str, value: float) -> None:
        """Say how good it got; the last value of a name counts. Anything that `float` takes."""
        with self._unfailing(f"metric {name!r}"), self._alone():
            self._notes.metric(name, value)
            self._flush_if_due()

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Several metrics at once."""
        for name, value in metrics.items():
            self.log_metric(name, value)

    def log_parameter(self, name: str, value: object) -> None:
        """Say what the step was told: numbers, texts, lists and objects as they are, anything else as its text."""
        with self._unfailing(f"parameter {name!r}"), self._alone():
            self._notes.parameters({name: value})
            self._flush_if_due()

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Several parameters at once."""
        for name, value in parameters.items():
            self.log_parameter(name, value)

    def flush(self) -> None:
        """Send what waits. When this returns, it is in the store, or on disk to be sent later."""
        with self._unfailing("what waits"), self._alone():
            self._flush(is_important=False)

    # Beginning and ending

    def start(self) -> Self:
        """Begin without a block; `end` must follow."""
        with self._unfailing("its start"), self._alone():
            self._begin()
        return self

    def end(self, error: BaseException | None = None) -> None:
        """The step is over, and failed when there is an error."""
        # A fault of logging must not take the place of the step's own.
        with self._unfailing("its end", instead_of=error), self._alone():
            self._end(error)

    def __enter__(self) -> Self:
        self.start()
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self.end(error)

    async def __aenter__(self) -> Self:
        # Who is on the event loop must not wait there: between start and end nothing is sent unless asked for.
        self._is_inline = False
        self._parent = self._parent or _current.get()
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError as error:
            # Its thread goes on, and what it begins nobody else would end.
            await asyncio.wait([starting])
            await asyncio.to_thread(self.end, error)
            raise
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        await asyncio.to_thread(self.end, error)

    def _leave(self) -> None:
        if self._token is not None:
            # Another context than the one it was entered in, as in a fixture, has nothing to take back.
            with suppress(ValueError):
                _current.reset(self._token)
            self._token = None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Make each call of a function a step; of a coroutine function, each time that it is awaited."""
        if inspect.iscoroutinefunction(function):
            awaited = cast("Callable[P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def asynchronous(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self._again():
                    return await awaited(*args, **kwargs)

            return cast("Callable[P, R]", asynchronous)

        @functools.wraps(function)
        def waiting(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return waiting

    def _again(self) -> "Step":
        return Step(**cast("dict[str, Any]", self._given))

    # How

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside the block, no other thread of this process touches the step.

        A child that was forked within the step has a lock of its own, since nobody is left there to give back the one
        that another thread of its parent's may have held. What its parent has noted, its parent sends.
        """
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.RLock()):
            if pid != self._known_pid:
                self._known_pid = pid
                if self._identity is not None:
                    self._mark = uuid.uuid4().hex[:8]
                    self._notes.forget()
                    self._inner = Counter()
            yield

    @contextmanager
    def _unfailing(self, what: str, *, instead_of: BaseException | None = None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Whatever it is: a step that did its work must not fail because of what it says about it.
            if self._is_strict and instead_of is None:
                raise
            log.warning("step %s: %s could not be logged: %r", self.name, what, error)

    def _mark_of_this_process(self) -> str:
        if os.getpid() == self._pid:
            return ""  # without waiting for who sends
        with self._alone():
            return self._mark

    def _begin(self) -> None:
        if self._identity is not None:
            raise RuntimeError(f"step {self.name!r} has begun already; use mdstore.run() again for another one")
        environment = os.environ
        self._pid = os.getpid()
        parent = self._parent or _current.get()
        if parent is not None and (parent._identity is None or parent._is_over):
            parent = None
        mark = "" if parent is None else parent._mark_of_this_process()
        here = place.find(environment)
        given_attempt = self._attempt if self._attempt is not None or parent is not None else here.attempt
        identity, attempt = identify(
            here,
            None if parent is None else parent._identity,
            inner=Counter() if parent is None else parent._inner,
            process=mark,
            name=plain.name(self.name),
            pipeline=self._pipeline or None,
            run_id=self._run_id,
            attempt=given_attempt,
        )
        self._identity = identity
        inherited = parent is not None and self._store is None and parent._is_strict == self._is_strict
        if parent is not None and inherited and parent._sender is not None:
            self._sender = parent._sender
        else:
            self._owns_sender = True
            self._sender = Sender.of_environment(
                environment, self._store, timeout_s=self._timeout_s, is_strict=self._is_strict
            )
        now = now_ms()
        self._defaults = {
            Property.DISPLAY_NAME: self.name,
            Property.TASK_NAME: self.name,
            Property.STARTED_AT: iso(now),
        }
        for key, known in (
            (Property.NAMESPACE, here.namespace),
            (Property.POD_NAME, here.pod_name),
            (Property.POD_UID, here.pod_uid),
        ):
            if known is not None:
                self._defaults[key] = known
        if attempt is not None:
            self._defaults[Property.ATTEMPT] = attempt
        if parent is not None and parent.external_id is not None:
            self._defaults[Property.PARENT] = parent.external_id
        if identity.is_own_run:
            self._run_defaults = {Property.DISPLAY_NAME: self.name, Property.STARTED_AT: iso(now)}
            self._notes.new.run_properties = {Property.STATE: "RUNNING"}
        elif not here.is_workflow and parent is None:
            self._run_defaults = {Property.DISPLAY_NAME: identity.run}
        self._notes.new.state = ExecutionState.RUNNING
        self._flush(is_important=True)

    def _end(self, error: BaseException | None) -> None:
        if self._identity is None or self._is_over:
            return
        if os.getpid() != self._pid:
            self._flush(is_important=False)
            return
        self._is_over = True
        now = now_ms()
        state, word = _outcome(error)
        new = self._notes.new
        new.state = state
        new.properties[Property.FINISHED_AT] = iso(now)
        new.run_properties = {Property.STATE: word, Property.FINISHED_AT: iso(now)}
        if error is not None and state is not ExecutionState.COMPLETE:
            message = f"{type(error).__name__}: {error}".rstrip(": ")[: plain.TEXT_CHARACTERS]
            new.properties[Property.MESSAGE] = message
            new.run_properties[Property.MESSAGE] = message
        try:
            self._notes.add_missing_digests()
            self._flush(is_important=True)
        except Exception:
            # Whoever asks that it fails may end it once more.
            self._is_over = not self._is_strict
            raise
        finally:
            if self._owns_sender and self._sender is not None:
                self._sender.finish()

    def _flush_if_due(self) -> None:
        if self._identity is None or not self._is_inline:
            return
        if self._notes.new.count() >= MOST or time.monotonic() - self._flushed_at >= FLUSH_AFTER_S:
            self._flush(is_important=False)

    def _flush(self, *, is_important: bool) -> None:
        if self._identity is None or self._sender is None:
            raise RuntimeError(f"step {self.name!r} has not begun: use it in a with block, or call start()")
        if self._notes.new.state is None and not self._notes.new.count():
            return
        self._flushed_at = time.monotonic()
        parts = list(self._notes.take())
        failed: Exception | None = None
        for number, part in enumerate(parts):
            try:
                self._sender.send(self._request(part), is_important=is_important)
            except Exception as error:
                if self._is_strict:
                    if isinstance(error, MetadataError) and not isinstance(error, REFUSALS):
                        self._notes.put_back(parts[number:])
                    raise
                # What comes behind may be smaller, or what the step came to.
                failed = failed or error
        if failed is not None:
            raise failed

    def _request(self, new: Changes) -> ingestion.IngestRequest:
        assert self._identity is not None
        return request(self._identity, self._type, self._defaults, self._run_defaults, new)


def _outcome(error: BaseException | None) -> tuple[ExecutionState, str]:
    """The execution's state, and the run's in the words of `Property.STATE`."""
    match error:
        case None:
            return ExecutionState.COMPLETE, "SUCCEEDED"
        case SystemExit(code=None | 0):
            return ExecutionState.COMPLETE, "SUCCEEDED"
        case KeyboardInterrupt() | asyncio.CancelledError() | GeneratorExit():
            return ExecutionState.CANCELED, "FAILED"
        case _:
            return ExecutionState.FAILED, "FAILED"
