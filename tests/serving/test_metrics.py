"""The names that dashboards ask for, and numbers that are a server's own."""

import pytest

from receptance.serving.metrics import Metrics


@pytest.mark.parametrize(
    "name",
    [
        "num_requests_running",
        "num_requests_waiting",
        "prompt_tokens_total",
        "generation_tokens_total",
        "time_to_first_token_seconds_bucket",
        "inter_token_latency_seconds_bucket",
        "e2e_request_latency_seconds_bucket",
        "request_queue_time_seconds_bucket",
        "batch_size_bucket",
        "state_cache_hits_total",
        "state_cache_misses_total",
        "state_cache_bytes",
        "engine_errors_total",
    ],
)
def test_every_number_is_there_from_the_start(name):
    assert f"\nreceptance:{name}" in Metrics().render().decode()


def test_a_number_with_a_reason_is_there_once_it_is_counted():
    metrics = Metrics()
    metrics.success.labels("stop").inc()
    metrics.cancelled.labels("client").inc()
    metrics.rejected.labels("queue_full").inc(2)
    text = metrics.render().decode()
    assert 'receptance:request_success_total{finished_reason="stop"} 1.0' in text
    assert 'receptance:cancelled_total{reason="client"} 1.0' in text
    assert metrics.value("rejected_total", reason="queue_full") == 2


def test_a_number_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError, match="nothing"):
        Metrics().value("nothing")


def test_two_servers_count_apart():
    one, other = Metrics(), Metrics()
    one.prompt_tokens.inc(5)
    assert one.value("prompt_tokens_total") == 5
    assert other.value("prompt_tokens_total") == 0


def test_what_changes_all_the_time_is_asked_for():
    metrics, running = Metrics(), [1, 2]
    metrics.watch(running=lambda: len(running), waiting=lambda: 0, cache_bytes=lambda: 7)
    running.append(3)
    assert metrics.value("num_requests_running") == 3
    assert metrics.value("state_cache_bytes") == 7
