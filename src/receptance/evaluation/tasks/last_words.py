"""A file of contexts and their continuations as a task, scored as lm-eval scores LAMBADA."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api import metrics
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


def perplexity(logprobs: Sequence[float]) -> float:
    """Return the perplexity of whole continuations; inf where no number is as large.

    The harness's own ends with an error there, and with it all figures of all tasks.
    """
    try:
        return metrics.perplexity(logprobs)
    except OverflowError:
        return math.inf


def perplexity_error(task: Task, n_draws: int) -> float | None:
    """Return the standard error of a task's perplexity; None where there is none.

    The harness draws items anew for figures that it knows, of which this perplexity is none.

    Args:
        task: From `last_word_task`, its requests answered.
        n_draws: How often all items are drawn.
    """
    logprobs = [each.resps[0][0] for each in task.instances]
    if len(logprobs) < 2:
        return None
    try:
        return metrics.bootstrap_stderr(perplexity, logprobs, iters=n_draws)
    except OverflowError:  # of the square of a large one
        return None


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
                        "aggregation": perplexity,
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
