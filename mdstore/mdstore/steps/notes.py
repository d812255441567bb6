"""What a step has said and has not sent: uses, outputs, metrics and parameters, and the digests of files among them."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mdstore.steps import content, plain
from mdstore.steps.records import Changes, Output, Use
from mdstore.values import JSON
from mdstore.vocabulary import ARTIFACT

log: Final = logging.getLogger("mdstore")

MOST: Final = 500
"""As many things as are sent together at most."""


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Notes:
    """Of one step. Threads: whoever uses it holds the step's lock."""

    def __init__(self, step: str, *, digest_s: float) -> None:
        """Nothing is noted yet.

        Args:
            step: its name, for what is logged.
            digest_s: for the digest of one file or folder; without one that takes longer, the step goes on.
        """
        self._step = step
        self._digest_s = digest_s
        self.new = Changes()
        """What waits."""
        self._parameters: dict[str, JSON] = {}
        self._outputs: dict[str, list[str | None]] = {}
        self._without_digest: list[tuple[str, int]] = []

    def use(
        self, name: str, location: str, *, type_name: str, properties: Mapping[str, object] | None, digest: str | None
    ) -> None:
        """The step uses what is at a location."""
        _check(type_name, digest)
        use = Use(
            name=plain.name(name),
            uri=location,
            digest=digest or self._digest(location),
            type=type_name,
            properties=plain.properties(properties),
            at_ms=now_ms(),
        )
        self.new.uses.append(use)

    def output(
        self,
        name: str,
        location: str | None,
        *,
        type_name: str,
        properties: Mapping[str, object] | None,
        digest: str | None,
    ) -> None:
        """The step made something; the same name and location again add to it."""
        _check(type_name, digest)
        label = plain.name(name)
        places = self._outputs.setdefault(label, [])
        if location not in places:
            places.append(location)
        index = places.index(location)
        found = digest or (None if location is None else self._digest(location))
        if found is None and location is not None:
            self._without_digest.append((label, index))
        before = self.new.outputs.get((label, index))
        self.new.outputs[label, index] = Output(
            name=label,
            index=index,
            uri=location,
            digest=found,
            type=type_name,
            properties={**(before.properties if before else {}), **plain.properties(properties)},
            at_ms=now_ms(),
        )

    def metric(self, name: str, value: float) -> None:
        """The last value of a name counts."""
        self.new.metrics[plain.name(name)] = float(value)

    def parameters(self, given: Mapping[str, object]) -> None:
        """What the step was told: all of these, or none when one has no name."""
        self._parameters |= {plain.name(key): plain.plain(value) for key, value in given.items()}
        self.new.parameters = dict(self._parameters) or None

    def add_missing_digests(self) -> None:
        """Of files that were not there when they were noted."""
        until = time.monotonic() + self._digest_s
        for name, index in dict.fromkeys(self._without_digest):
            uri = self._outputs[name][index]
            waiting = self.new.outputs.get((name, index))
            if uri is None or time.monotonic() >= until or (waiting is not None and waiting.digest is not None):
                continue
            found = self._digest(uri, seconds=until - time.monotonic())
            if found is None:
                continue
            if waiting is None:
                # It went with an earlier request; only what is new is said again.
                waiting = Output(
                    name=name, index=index, uri=uri, digest=None, type=ARTIFACT, properties={}, at_ms=now_ms()
                )
            self.new.outputs[name, index] = replace(waiting, digest=found)

    def take(self) -> Iterator[Changes]:
        """What waits, for as many requests as bound its size, and nothing of it again.

        What the step came to is in the last one.
        """
        new, self.new = self.new, Changes()
        uses, outputs, metrics = list(new.uses), list(new.outputs.items()), list(new.metrics.items())
        while len(uses) + len(outputs) + len(metrics) > MOST:
            part = Changes(uses=uses[:MOST])
            del uses[:MOST]
            if not part.uses:
                part.outputs, outputs = dict(outputs[:MOST]), outputs[MOST:]
            if not part.uses and not part.outputs:
                part.metrics, metrics = dict(metrics[:MOST]), metrics[MOST:]
            yield part
        new.uses, new.outputs, new.metrics = uses, dict(outputs), dict(metrics)
        yield new

    def put_back(self, parts: Sequence[Changes]) -> None:
        """What was taken, of which the last is the last one taken, waits again; nothing was noted meanwhile."""
        new = Changes(
            parameters=parts[-1].parameters,
            properties=parts[-1].properties,
            state=parts[-1].state,
            run_properties=parts[-1].run_properties,
        )
        for part in parts:
            new.uses += part.uses
            new.outputs |= part.outputs
            new.metrics |= part.metrics
        self.new = new

    def forget(self) -> None:
        """Nothing waits any more."""
        self.new = Changes()

    def _digest(self, uri: str, *, seconds: float | None = None) -> str | None:
        path = content.local_path(uri)
        if path is None:
            return None
        try:
            return content.digest_of(path, seconds=self._digest_s if seconds is None else seconds)
        except (OSError, content.TooLong) as error:
            log.info("step %s: no digest of %s: %s", self._step, uri, error)
            return None


def _check(type_name: object, digest: object) -> None:
    # In a message they would be refused with all that goes along.
    if not isinstance(type_name, str) or not type_name:
        raise TypeError(f"a type is a name, not {type_name!r}")
    if not isinstance(digest, str | None):
        raise TypeError(f"a digest is a text, not {digest!r}")
    for text in (type_name, digest or ""):
        text.encode()
