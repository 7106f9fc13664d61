"""A line of a file of prompts says what it wants, or is refused by its number."""

from pathlib import Path

import pytest

from receptance.errors import DataError
from receptance.inference import SamplingParams
from receptance.inference.batch.prompt_file import read_prompts

ALL = SamplingParams(max_tokens=7, seed=40, stop=("x",))


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "prompts.jsonl"


def test_a_line_sets_what_it_names_and_has_the_rest_of_all(file):
    file.write_text('{"prompt": "a"}\n{"prompt": [1, 2], "id": 5, "top_k": 3, "temperature": 1}\n')

    first, second = read_prompts(file, ALL)

    assert (first.prompt, first.id, first.params) == ("a", None, ALL)
    assert (second.prompt, second.id) == ([1, 2], 5)
    assert second.params == SamplingParams(max_tokens=7, seed=41, stop=("x",), top_k=3)


def test_every_setting_may_be_a_lines_own(file):
    file.write_text(
        '{"prompt": "", "max_tokens": 1, "temperature": 0, "top_k": 2, "top_p": 0.5, "min_p": 0.1,'
        ' "typical_p": 0.9, "repetition_penalty": 2, "presence_penalty": -1, "seed": 4,'
        ' "frequency_penalty": 1, "penalty_decay": 0.5, "stop": ["a", "b"],'
        ' "logit_bias": {"3": -5}}'
    )

    (line,) = read_prompts(file, ALL)

    assert line.params == SamplingParams(
        max_tokens=1,
        temperature=0.0,
        top_k=2,
        top_p=0.5,
        min_p=0.1,
        typical_p=0.9,
        repetition_penalty=2.0,
        presence_penalty=-1.0,
        frequency_penalty=1.0,
        penalty_decay=0.5,
        seed=4,
        stop=("a", "b"),
        logit_bias={3: -5.0},
    )


def test_a_stop_may_be_one_text_and_a_seed_none(file):
    file.write_text('{"prompt": "a", "stop": "xyz", "seed": null}')

    (line,) = read_prompts(file, ALL)

    assert line.params.stop == ("xyz",)
    assert line.params.seed is None


def test_seeds_follow_each_other_and_begin_anew_behind_the_last(file):
    file.write_text('{"prompt": "a"}\n{"prompt": "a"}\n')

    lines = read_prompts(file, SamplingParams(seed=2**63 - 1))

    assert [line.params.seed for line in lines] == [2**63 - 1, 0]


def test_empty_lines_are_passed_over_but_counted(file):
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\n  \n{"prompt": "b"}')

    lines = list(read_prompts(file, ALL))

    assert [(line.number, line.prompt, line.end) for line in lines] == [(1, "a", 20), (4, "b", 39)]
    assert [line.params.seed for line in lines] == [40, 43]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "must be one JSON object, but is not JSON"),
        (b"[" * 100_000, "must be one JSON object, but is not JSON"),
        (b'{"prompt": "\xff"}', "must be UTF-8, but byte 12 is not"),
        (b'"a"', "must be a JSON object"),
        (b"{}", "'prompt' must be a text or a list of tokens"),
        (b'{"prompt": [1, true]}', "'prompt' must be a text or a list of tokens"),
        (b'{"prompt": [1.0]}', "'prompt' must be a text or a list of tokens"),
        (b'{"prompt": "\\ud800"}', "'prompt' must be whole characters"),
        (b'{"prompt": ""}', "'prompt' must not be empty after a state"),
        (b'{"prompt": "a", "topk": 1}', "no field 'topk'; did you mean 'top_k'?"),
        (b'{"prompt": "a", "zzz": 1}', "no field 'zzz'; there are prompt, id, max_tokens"),
        (b'{"prompt": "a", "id": 1.5}', "'id' must be a text or an integer, got 1.5"),
        (b'{"prompt": "a", "id": true}', "'id' must be a text or an integer, got True"),
        (b'{"prompt": "a", "max_tokens": "9"}', "'max_tokens' must be an integer, got '9'"),
        (b'{"prompt": "a", "max_tokens": -1}', "`max_tokens` must be at least 0"),
        (b'{"prompt": "a", "max_tokens": true}', "'max_tokens' must be an integer, got True"),
        (b'{"prompt": "a", "temperature": "1"}', "'temperature' must be a number, got '1'"),
        (b'{"prompt": "a", "temperature": NaN}', "numbers must be finite, but there is NaN"),
        (b'{"prompt": "a", "temperature": 1e999}', "`temperature` must be a finite number"),
        (b'{"prompt": "a", "top_p": 1%s}' % (b"0" * 400), "'top_p' must be a number of usual"),
        (b'{"prompt": "a", "top_p": 0}', "`top_p` must be above 0"),
        (b'{"prompt": "a", "stop": 1}', "'stop' must be a text or a list of texts"),
        (b'{"prompt": "a", "stop": [""]}', "`stop` must be a tuple of texts"),
        (b'{"prompt": "a", "logit_bias": [1]}', "'logit_bias' must be an object of numbers"),
        (b'{"prompt": "a", "logit_bias": {"-1": 1}}', "'logit_bias' must be an object of numbers"),
        (b'{"prompt": "a", "logit_bias": {"1": "1"}}', "'logit_bias' must be a number"),
    ],
)
def test_a_wrong_line_is_named_with_its_file_and_number(file, line, words):
    file.write_bytes(b'{"prompt": "a"}\n\n' + line + b"\n")
    lines = read_prompts(file, ALL, may_be_empty=False)
    next(lines)

    with pytest.raises(DataError) as refused:
        next(lines)

    assert str(refused.value).startswith(f"{file}:3: ")
    assert words in str(refused.value)
