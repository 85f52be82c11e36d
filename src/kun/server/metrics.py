"""Figures for Prometheus. Labels come from fixed sets, so that no client can make them grow."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kun.server.service import Service

_ROUTES = frozenset(
    (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/scores",
        "/v1/models",
        "/healthz",
        "/metrics",
    )
)
_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_COUNTERS = {
    "prompt_tokens": ("kun_prompt_tokens", "Tokens of prompts, those found in the cache included"),
    "cached_tokens": ("kun_cached_tokens", "Tokens of prompts that were found in the cache"),
    "generated_tokens": ("kun_generated_tokens", "Tokens written"),
    "steps": ("kun_steps", "Passes of the network"),
    "preemptions": ("kun_preemptions", "Rows that gave up their pages to others"),
    "failures": ("kun_engine_failures", "Steps that failed"),
}
_GAUGES = {
    "running": ("kun_running", "Rows in the batch"),
    "queued": ("kun_queued", "Rows that wait for a place in the batch"),
    "tokens_per_s": ("kun_tokens_per_second", "Tokens written a second, over the last ten"),
    "pages": ("kun_cache_pages", "Pages of the key-value cache"),
    "pages_used": ("kun_cache_pages_used", "Pages of the key-value cache in use"),
}


class Metrics:
    """Requests by route and status, their seconds until the last byte, and what the engines count."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Engines(service))
        self._requests = Counter(
            "kun_requests",
            "Requests by route and status",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "kun_request_seconds",
            "Seconds until the last byte of the answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._embedded = Counter(
            "kun_embedded_tokens", "Tokens of texts that were embedded", registry=self._registry
        )
        self._scored = Counter(
            "kun_scored_tokens", "Tokens of conversations that were scored", registry=self._registry
        )

    def observe(self, path: str, status: int, seconds: float) -> None:
        """A request is over; its status is 0 where none was sent."""
        route = _route(path)
        self._requests.labels(route, str(status or 499)).inc()
        self._seconds.labels(route).observe(seconds)

    def embedded(self, tokens: int) -> None:
        self._embedded.inc(tokens)

    def scored(self, tokens: int) -> None:
        self._scored.inc(tokens)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Engines:
    """The counts of the language models in memory, read when they are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        counts = [(lm.name, lm.stats()) for lm in self._service.loaded()]
        for kinds, family in ((_COUNTERS, CounterMetricFamily), (_GAUGES, GaugeMetricFamily)):
            for what, (name, help_text) in kinds.items():
                metric = family(name, help_text, labels=["model"])
                for model, stats in counts:
                    metric.add_metric([model], stats[what])
                yield metric


def _route(path: str) -> str:
    if path in _ROUTES:
        return path
    return "/v1/models/{model}" if path.startswith("/v1/models/") else "other"
