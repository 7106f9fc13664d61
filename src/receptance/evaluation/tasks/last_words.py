"""A file of contexts and their continuations as a task, scored as lm-eval scores LAMBADA."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask, Task

from receptance.errors import DataError

SUFFIX = ".jsonl"


def last_word_task(path: Path) -> Task:
    """Return the task that a file is, named as the file without its suffix.

    Its figures are those of `lambada_openai`: `acc`, how often greedy decoding gives the
    continuation, and `perplexity`, of the continuation as a whole and not by token. A space comes
    between the two texts, as part of the second, unless there is white space already, or no first.

    Args:
        path: Of JSON objects, one a line, with the texts `context` and `continuation`.

    Raises:
        DataError: If it holds none, or a line is something else.
        OSError: If it cannot be read.
    """
    items = list(_items(path))
    if not items:
        raise DataError(f"{str(path)!r} must hold items of a task, but it is empty")
    return _LastWords(path.stem, items)


class _LastWords(ConfigurableTask):
    """A task whose items are in memory."""

    def __init__(self, name: str, items: list[dict[str, str]]) -> None:
        self._items = items  # which the harness asks for while it makes the task
        super().__init__(
            config={
                "task": name,
                "output_type": "loglikelihood",
                "test_split": "test",
                "fewshot_split": "test",  # which leaves an item out of its own examples
                "target_delimiter": "",  # a target begins with its space
                "doc_to_text": "context",
                "doc_to_target": "target",
                "metric_list": [
                    {
                        "metric": "perplexity",
                        "aggregation": "perplexity",
                        "higher_is_better": False,
                    },
                    {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
                ],
                "metadata": {"version": 1.0},
            }
        )

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: object) -> None:
        """Take the items; nothing is fetched or cached."""
        del dataset_kwargs
        self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_list(self._items)})


def _items(path: Path) -> Iterator[dict[str, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: it is not JSON ({error})") from None
            fields = item if isinstance(item, dict) else {}
            context, continuation = fields.get("context"), fields.get("continuation")
            if not (isinstance(context, str) and isinstance(continuation, str) and continuation):
                raise DataError(
                    f"{path}, line {number}: an item must have the texts `context` and "
                    f"`continuation`, but it is {line[:60].decode(errors='replace')!r}"
                )
            is_apart = continuation[0].isspace() or not context or context[-1].isspace()
            space = "" if is_apart else " "
            yield {"context": context, "target": space + continuation}
