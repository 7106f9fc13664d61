"""The names that dashboards ask for, and numbers that are a server's own."""

import asyncio
from pathlib import Path

import pytest

from receptance.inference import LanguageModel, Request, SamplingParams
from receptance.serving.engine_room import Job
from receptance.serving.metrics import Metrics
from tests.serving.engine_room.rooms import open_room


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
        "state_cache_folder_bytes",
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
    metrics.watch(
        running=lambda: len(running),
        waiting=lambda: 0,
        cache_bytes=lambda: 7,
        folder_bytes=lambda: 8,
    )
    running.append(3)
    assert metrics.value("num_requests_running") == 3
    assert metrics.value("state_cache_bytes") == 7
    assert metrics.value("state_cache_folder_bytes") == 8


def test_when_a_number_began_is_no_number_of_its_own():
    metrics = Metrics()
    metrics.success.labels("stop").inc()
    assert "_created" not in metrics.render().decode()


def test_a_text_that_the_model_ends_is_counted_as_its_answer_says(lm: LanguageModel):
    async def main() -> None:
        async with open_room(lm) as room:
            params = SamplingParams(max_tokens=5, logit_bias={0: 1000.0})
            request = Request("a prompt", params)
            (finished,) = await (await room.submit(Job(request=request, owner="a"))).finished()
            assert finished.generation.finish_reason == "end_of_text"
            assert room._metrics.value("request_success_total", finished_reason="stop") == 1

    asyncio.run(main())


def test_the_cache_on_the_disk_is_as_large_as_its_files(lm: LanguageModel, tmp_path: Path):
    async def main() -> None:
        async with open_room(lm, state_cache_folder=tmp_path) as room:
            assert room._metrics.value("state_cache_folder_bytes") == 0
            request = Request("a prompt", SamplingParams(max_tokens=1), cache_scope="a")
            await (await room.submit(Job(request=request, owner="a"))).finished()
        files = [each for each in tmp_path.rglob("*") if each.is_file()]
        n_bytes = sum(each.stat().st_size for each in files)
        assert room._metrics.value("state_cache_folder_bytes") == n_bytes > 0

    asyncio.run(main())
