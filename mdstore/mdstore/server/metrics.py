"""The server's numbers as Prometheus reads them, at `/metrics`."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstore.errors import MetadataError
from mdstore.server.dispatch import Dispatcher
from mdstore.server.renewal import Certificates


class _Numbers(Collector):
    def __init__(self, dispatcher: Dispatcher, tls: Certificates | None) -> None:
        self._dispatcher = dispatcher
        self._tls = tls

    def collect(self) -> Iterator[Metric]:
        dispatcher, meter = self._dispatcher, self._dispatcher.meter
        calls = CounterMetricFamily(
            "mdstore_calls", "Calls that have ended, by method and gRPC code.", labels=("method", "code")
        )
        for (method, code), count in tuple(meter.calls.items()):
            calls.add_metric((method, code), count)
        yield calls
        seconds = HistogramMetricFamily(
            "mdstore_call_seconds", "How long calls took in the server, streams left out.", labels=("method",)
        )
        for method, histogram in tuple(meter.seconds.items()):
            seconds.add_metric((method,), histogram.cumulative(), histogram.total)
        yield seconds
        yield GaugeMetricFamily("mdstore_calls_under_way", "Calls that are being answered.", dispatcher.calls)
        yield GaugeMetricFamily(
            "mdstore_writes_waiting", "Writes whose turn has not come.", dispatcher.store.writes_waiting()
        )
        yield HistogramMetricFamily(
            "mdstore_group_size",
            "Writes that were committed together.",
            meter.group_sizes.cumulative(),
            meter.group_sizes.total,
        )
        yield HistogramMetricFamily(
            "mdstore_commit_seconds",
            "How long the transaction of a group took.",
            meter.commit_seconds.cumulative(),
            meter.commit_seconds.total,
        )
        try:
            head = dispatcher.store.head_seq()
        except MetadataError:
            pass  # a database that cannot be read has no head to show, and /healthz says why
        else:
            yield GaugeMetricFamily("mdstore_change_log_head", "The newest position of the change log.", head)
        yield GaugeMetricFamily("mdstore_followers", "Streams that follow the change log.", dispatcher.feeds.followers)
        if self._tls is not None:
            self._tls.look()
            yield CounterMetricFamily(
                "mdstore_tls_renewals", "How often new certificates came into use.", self._tls.renewals
            )
            yield GaugeMetricFamily(
                "mdstore_tls_files_refused",
                "1 while the certificate files cannot be used and the older ones stay in use.",
                int(bool(self._tls.refused)),
            )


class Exposition:
    """What `/metrics` answers. Threads: any."""

    def __init__(self, dispatcher: Dispatcher, tls: Certificates | None = None) -> None:
        """Show the numbers of `dispatcher`, of its certificates where it has some, and of this process."""
        self._registry = CollectorRegistry()
        self._registry.register(_Numbers(dispatcher, tls))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The numbers and their content type, in the format that the `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
