"""What a server counts and times, for Prometheus; named as vLLM's, so that dashboards port."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `Metrics.render` gives."""

FINISH_REASONS = {"stop": "stop", "end_of_text": "stop", "length": "length"}
"""Why a text ended, as it is counted and as clients are told, by the engine's word for it."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_SEQUENCES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class _Registry(CollectorRegistry):
    """A registry without the time at which each number began, which doubles the series."""

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics, each as it is now."""
        for metric in super().collect():
            metric.samples = [each for each in metric.samples if not _is_beginning(each.name)]
            yield metric


def _is_beginning(name: str) -> bool:
    return name.endswith("_created")


class Metrics:
    """The numbers of one server, in a registry of its own. Any thread may change them."""

    def __init__(self) -> None:
        registry = _Registry()
        self._registry = registry

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"receptance:{name}", help_, labels, registry=registry)

        def gauge(name: str, help_: str) -> Gauge:
            return Gauge(f"receptance:{name}", help_, registry=registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"receptance:{name}", help_, registry=registry, buckets=buckets)

        self._running = gauge("num_requests_running", "Texts that are read or written.")
        self._waiting = gauge("num_requests_waiting", "Texts that wait for their turn.")
        self.prompt_tokens = counter("prompt_tokens_total", "Tokens of prompts.")
        self.generation_tokens = counter("generation_tokens_total", "Tokens that were chosen.")
        self.first_token = histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first token."
        )
        self.inter_token = histogram(
            "inter_token_latency_seconds", "Between two tokens of a text.", _TOKEN_SECONDS
        )
        self.request = histogram(
            "e2e_request_latency_seconds", "From a request's arrival to its last token."
        )
        self.queue = histogram(
            "request_queue_time_seconds", "From a request's arrival to its first step."
        )
        self.success = counter("request_success_total", "Texts to their end.", "finished_reason")
        self.cache_hits = counter("state_cache_hits_total", "Prompts that went on from a state.")
        self.cache_misses = counter("state_cache_misses_total", "Prompts read from the start.")
        self._cache_bytes = gauge("state_cache_bytes", "Memory of the states that are kept.")
        self._folder_bytes = gauge("state_cache_folder_bytes", "Disk of the states that are kept.")
        self.batch_size = histogram("batch_size", "Texts that got a token in a step.", _SEQUENCES)
        self.cancelled = counter("cancelled_total", "Requests that were ended early.", "reason")
        self.rejected = counter("rejected_total", "Requests that were not taken.", "reason")
        self.engine_errors = counter("engine_errors_total", "Times that the engine broke.")

    def watch(
        self,
        *,
        running: Callable[[], int],
        waiting: Callable[[], int],
        cache_bytes: Callable[[], int],
        folder_bytes: Callable[[], int],
    ) -> None:
        """Ask for the numbers that change all the time when they are wanted.

        Args:
            running: How many texts are read or written.
            waiting: How many wait for their turn.
            cache_bytes: How much memory the states take that are remembered.
            folder_bytes: How much of the disk they take.
        """
        self._running.set_function(lambda: float(running()))
        self._waiting.set_function(lambda: float(waiting()))
        self._cache_bytes.set_function(lambda: float(cache_bytes()))
        self._folder_bytes.set_function(lambda: float(folder_bytes()))

    def value(self, name: str, **labels: str) -> float:
        """Return the number of one sample.

        Args:
            name: As it is rendered, without `receptance:`.
            labels: All that the sample has.

        Raises:
            KeyError: If there is none.
        """
        value = self._registry.get_sample_value(f"receptance:{name}", labels)
        if value is None:
            raise KeyError(name)
        return value

    def render(self) -> bytes:
        """Return all of them in Prometheus's text form."""
        return generate_latest(self._registry)
