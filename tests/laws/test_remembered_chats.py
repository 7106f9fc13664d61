"""Law: a chat says the same whether its turns are remembered, in memory, on the disk, or not."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from receptance.errors import ConfigError
from receptance.inference import LanguageModel, Request, SamplingParams
from receptance.serving import Settings
from receptance.serving.chat import Message, find_template
from receptance.serving.engine_room import EngineRoom, Job
from receptance.serving.metrics import Metrics
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

AT_ONCE = 8


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    tokenizer = BytesTokenizer()
    return LanguageModel(random_rwkv4(2, 32, tokenizer.vocab_size), tokenizer, chunk_tokens=32)


def random_word(chance: random.Random) -> str:
    return "".join(chance.choice("abcdefgh") for _ in range(chance.randint(1, 9)))


async def chat(room: EngineRoom, lm: LanguageModel, seed: int) -> tuple[list[str], int]:
    """Return the answers of a chat, and how many tokens of its prompts were remembered.

    Now and then a turn is asked for again, or an earlier one is changed.
    """
    template = find_template(lm, "raven", lm.tokenizer)
    chance = random.Random(seed)
    said = [Message("system", "Be brief.")] if chance.random() < 0.5 else []
    answers: list[str] = []
    n_cached = 0
    for turn in range(chance.randint(2, 4)):
        if answers and chance.random() < 0.2:
            said = said[:-2]
        if said and said[-1].role == "assistant" and chance.random() < 0.3:
            said = said[:-1]
        else:
            words = " ".join(random_word(chance) for _ in range(chance.randint(1, 12)))
            said = [*said, Message("user", words)]
        prompt = template.render(said)
        params = SamplingParams(
            max_tokens=chance.randint(1, 12),
            temperature=chance.choice((0.0, 1.0)),
            repetition_penalty=chance.choice((1.0, 1.3)),
            seed=turn,
            stop=prompt.stop,
        )
        owner = f"owner {seed % 3}"
        request = Request(prompt.tokens, params, cache_scope=owner)
        ticket = await room.submit(Job(request=request, owner=owner))
        (finished,) = await ticket.finished()
        n_cached += (await ticket.prompt()).cached_tokens
        answers.append(finished.generation.text)
        said = [*said, Message("assistant", finished.generation.text)]
    return answers, n_cached


async def talk(lm: LanguageModel, n: int, **limits: Any) -> tuple[list[list[str]], int]:
    """Return the answers of many chats, some at once, and how much was remembered."""
    settings = Settings(max_sequences=AT_ONCE, chunk_tokens=32, **limits)
    room = EngineRoom(lm, settings, Metrics())
    room.start()
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> tuple[list[str], int]:
        async with turns:
            return await chat(room, lm, seed)

    try:
        chats = await asyncio.gather(*(one(seed) for seed in range(n)))
    finally:
        await room.close()
    return [answers for answers, _ in chats], sum(n_cached for _, n_cached in chats)


def check(lm: LanguageModel, n: int, folder: Path) -> None:
    expected, none = asyncio.run(talk(lm, n, state_cache_bytes=0))
    assert none == 0
    little = 6 * sum(each.nbytes for each in lm.zero_state().tensors.values())
    remembered: list[int] = []
    for limits in (
        {"state_cache_bytes": 2**24},
        {"state_cache_bytes": little},
        {"state_cache_bytes": little, "state_cache_folder": folder},
        {"state_cache_bytes": little, "state_cache_folder": folder},  # after a restart
    ):
        answers, n_cached = asyncio.run(talk(lm, n, **limits))
        assert answers == expected
        remembered.append(n_cached)
    most, least, spilled, restarted = remembered
    # Fewer than the most only where the disk did not keep up.
    assert least < spilled <= most
    assert least < restarted <= most


def test_chats_say_the_same_whatever_is_remembered(lm: LanguageModel, tmp_path: Path):
    check(lm, 24, tmp_path)


@pytest.mark.slow
def test_very_many_chats_say_the_same_whatever_is_remembered(lm: LanguageModel, tmp_path: Path):
    check(lm, 2000, tmp_path)


def test_a_server_goes_on_from_what_the_one_before_it_read(lm: LanguageModel, tmp_path: Path):
    async def cached(prompt: list[int]) -> int:
        room = EngineRoom(lm, Settings(state_cache_folder=tmp_path), Metrics())
        room.start()
        try:
            request = Request(prompt, SamplingParams(max_tokens=1), cache_scope="me")
            ticket = await room.submit(Job(request=request, owner="me"))
            return (await ticket.prompt()).cached_tokens
        finally:
            await room.close()

    assert asyncio.run(cached([1, 2, 3])) == 0
    assert asyncio.run(cached([1, 2, 3, 4])) == 3


def test_a_folder_that_takes_nothing_is_refused_at_the_start(lm: LanguageModel, tmp_path: Path):
    (tmp_path / "file").write_text("")
    settings = Settings(state_cache_folder=tmp_path / "file")
    with pytest.raises(ConfigError, match="`state_cache_folder` must be a folder to write in"):
        EngineRoom(lm, settings, Metrics())
