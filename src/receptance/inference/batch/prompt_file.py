"""A file of prompts: a JSON object a line, each with settings of its own if it wants."""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from receptance.errors import DataError
from receptance.inference.sampling import SamplingParams

_SETTINGS = tuple(field.name for field in fields(SamplingParams))
_KNOWN = ("prompt", "id", *_SETTINGS)
_NO_PROMPT = "'prompt' must be a text or a list of tokens"
_HALF_A_CHARACTER = "'prompt' must be whole characters, but has half of a surrogate pair"
_EMPTY = "'prompt' must not be empty after a state, which predicts nothing until a token is fed"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _WrongLineError(ValueError):
    """A line is not what it must be; the message says how."""


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """What a line of the file asks for."""

    number: int
    """Of the line, from 1 on; lines that are empty count."""
    end: int
    """How many bytes of the file are read with it."""
    prompt: str | list[int]
    """A text, or tokens."""
    params: SamplingParams
    """Those for all, with what the line sets."""
    id: str | int | None = None
    """What the line wants its answer to be called."""


def read_prompts(
    path: Path, params: SamplingParams, *, may_be_empty: bool = True
) -> Iterator[PromptLine]:
    """Yield what the lines of a file ask for; empty lines are passed over.

    A line is an object: `prompt` is a text or a list of tokens, `id` is passed on, and the other
    fields are those of `SamplingParams`. A line without a seed has that of `params`, plus how many
    lines of the file are before it, so that equal prompts get different texts.

    Args:
        path: The file, in UTF-8.
        params: What holds where a line does not say.
        may_be_empty: Whether a prompt may be empty.

    Raises:
        DataError: If a line is wrong; the message begins with the file and the line's number.
        OSError: If the file cannot be read.
    """
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            end += len(line)
            content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if not content.strip():
                continue
            try:
                record = _parsed(content)
                prompt = _prompt(record, may_be_empty=may_be_empty)
                own = _params(record, params, number)
                yield PromptLine(number=number, end=end, prompt=prompt, params=own, id=_id(record))
            except _WrongLineError as error:
                raise DataError(f"{path}:{number}: {error}") from None


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record: Any = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _WrongLineError(
            f"the line must be UTF-8, but byte {error.start} is not ({error.reason})"
        ) from None
    except _WrongLineError:
        raise
    except (ValueError, RecursionError) as error:
        raise _WrongLineError(
            f"the line must be one JSON object, but is not JSON ({error})"
        ) from None
    if not isinstance(record, dict):
        raise _WrongLineError(f"the line must be a JSON object with a prompt, got {record!r:.40}")
    fields_given = cast("dict[str, Any]", record)
    for name in fields_given.keys() - set(_KNOWN):
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_KNOWN)}"
        raise _WrongLineError(f"there is no field {name!r}; {hint}")
    return fields_given


def _refuse_constant(name: str) -> NoReturn:
    raise _WrongLineError(f"numbers must be finite, but there is {name}")


def _prompt(record: Mapping[str, Any], *, may_be_empty: bool) -> str | list[int]:
    prompt = record.get("prompt")
    if isinstance(prompt, str):
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise _WrongLineError(_HALF_A_CHARACTER) from None
    elif not (isinstance(prompt, list) and all(type(each) is int for each in _list(prompt))):
        raise _WrongLineError(_NO_PROMPT)
    if not prompt and not may_be_empty:
        raise _WrongLineError(_EMPTY)
    return prompt if isinstance(prompt, str) else _list(prompt)


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value)


def _id(record: Mapping[str, Any]) -> str | int | None:
    value = record.get("id")
    if value is None or type(value) in (str, int):
        return value
    raise _WrongLineError(f"'id' must be a text or an integer, got {value!r}")


def _params(record: Mapping[str, Any], params: SamplingParams, number: int) -> SamplingParams:
    """Return the settings of a line."""
    own = {name: _READERS[name](name, record[name]) for name in _SETTINGS if name in record}
    if "seed" not in record and params.seed is not None:
        own["seed"] = (params.seed + number - 1) % 2**63
    try:
        return replace(params, **own)
    except ValueError as error:
        raise _WrongLineError(str(error)) from None


def _integer(name: str, value: Any) -> int:
    if type(value) is not int:
        raise _WrongLineError(f"{name!r} must be an integer, got {value!r}")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float):
        raise _WrongLineError(f"{name!r} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise _WrongLineError(f"{name!r} must be a number of usual size, got {value}") from None


def _seed(name: str, value: Any) -> int | None:
    return None if value is None else _integer(name, value)


def _stop(name: str, value: Any) -> tuple[str, ...]:
    stops: Any = [value] if isinstance(value, str) else value
    if isinstance(stops, list) and all(isinstance(each, str) for each in _list(stops)):
        return tuple(_list(stops))
    raise _WrongLineError(f"{name!r} must be a text or a list of texts, got {value!r}")


def _bias(name: str, value: Any) -> dict[int, float]:
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        # A JSON object has texts for names; a token of twenty digits is nobody's.
        if all(token.isdecimal() and len(token) < 20 for token in given):
            return {int(token): _number(name, each) for token, each in given.items()}
    raise _WrongLineError(f"{name!r} must be an object of numbers by token, got {value!r}")


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(_SETTINGS, _number),
    "max_tokens": _integer,
    "top_k": _integer,
    "seed": _seed,
    "stop": _stop,
    "logit_bias": _bias,
}
