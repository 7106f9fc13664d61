"""The model "receptance" of lm-eval-harness: all its kinds of requests, answered in batches."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm

from receptance.errors import ConfigError, DataError
from receptance.evaluation.continuations import Scored, score_continuations
from receptance.evaluation.tasks.prefix import NONE, parse_prefix
from receptance.inference import Engine, LanguageModel, Request, SamplingParams, load

MAX_TOKENS = 256
"""How much is written where a task does not say, as the harness's own adapters do."""
_SAMPLING = {
    "temperature": float, "top_k": int, "top_p": float, "min_p": float, "repetition_penalty": float
}  # fmt: skip
_LOADING = ("dtype", "quantize", "device", "tokenizer", "adapter")


class HarnessModel(TemplateLM):
    """A language model as the harness asks it.

    A context and its continuation are divided into tokens as the harness's own adapters do. What
    they do not do is to truncate: a text of any length is read from its beginning.
    """

    def __init__(
        self,
        lm: LanguageModel,
        *,
        context_prefix: Sequence[int] = (),
        batch_size: int = 16,
        forks: bool = True,
    ) -> None:
        """Take a model.

        Args:
            lm: The model, with a tokenizer.
            context_prefix: Tokens that are fed before every context and text. Where there are
                none, an empty one is preceded by the token that ends a text.
            batch_size: How many texts are read or written side by side.
            forks: Whether a context that several continuations share is read once.

        Raises:
            TokenizerError: If the model has no tokenizer.
        """
        super().__init__()
        self.lm = lm
        self._tokenizer = lm.tokenizer
        self._prefix = list(context_prefix)
        self._batch_size = batch_size
        self._forks = forks

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "HarnessModel":
        """Return the model of `--model_args`, such as "path=runs/x/model,context_prefix=none".

        Args and Raises as `create_from_arg_obj`.
        """
        return cls.create_from_arg_obj(
            utils.simple_parse_args_string(arg_string), additional_config
        )

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> "HarnessModel":
        """Return the model of these arguments.

        Args:
            arg_dict: `path`, and what `load` takes; `context_prefix` as the option has it.
            additional_config: `batch_size` and `device`, where the harness was given them.

        Raises:
            ConfigError: If an argument is unknown, or there is no `path`.
            ReceptanceError: As `load`.
        """
        given = {k: v for k, v in (additional_config or {}).items() if v is not None} | arg_dict
        given.pop("max_batch_size", None)  # of "auto", which finds what a GPU's memory can hold
        loading = {name: given.pop(name) for name in _LOADING if name in given}
        prefix, path = str(given.pop("context_prefix", NONE)), given.pop("path", None)
        batch_size = given.pop("batch_size", 16)
        forks = given.pop("forks", True)
        if path is None or given or not str(batch_size).isdigit():
            raise ConfigError(
                "the arguments of the model 'receptance' must be a `path`, and may be "
                f"`context_prefix`, `forks`, a number `batch_size` and {', '.join(_LOADING)}, but "
                f"they are {sorted(arg_dict)} with the batch size {batch_size!r}"
            )
        lm = load(path, **loading)
        prefix_tokens = parse_prefix(prefix, lm.tokenizer)
        return cls(lm, context_prefix=prefix_tokens, batch_size=int(batch_size), forks=forks)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._tokenizer.end_of_text

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Return the tokens of a text; special ones are never among them."""
        del add_special_tokens, kwargs
        return self._tokenizer.encode(string)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return ln p of each continuation after its context, and whether it is the likeliest.

        Args:
            requests: Pairs of a context and a continuation.
            disable_tqdm: Whether no progress is shown; it never is but on a terminal.

        Raises:
            DataError: If a continuation adds no token to its context.
        """
        is_quiet = disable_tqdm or not sys.stderr.isatty()
        return super().loglikelihood(requests, disable_tqdm=is_quiet)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs: list[tuple[list[int], list[int]]] = []
        for (context, continuation), context_tokens, tokens in requests:
            if not tokens:
                raise DataError(
                    "a continuation must add a token to its context, but "
                    f"{continuation!r} adds none to {context[-40:]!r}; change the task's items"
                )
            # In place of an empty context the harness gives the token that ends a text.
            pairs.append((self._opening(context_tokens if context else []), tokens))
        scored = self._scored(pairs, is_quiet=kwargs.get("disable_tqdm", True))
        answers = [(each.logprob, each.is_greedy) for each in scored]
        for (key, _, _), answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", key, answer)
        return answers

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Return ln p of each text, whole: its first token is predicted from the prefix.

        Args:
            requests: Texts.
            disable_tqdm: As for `loglikelihood`.
        """
        pairs = [(self._opening([]), self.tok_encode(each.args[0])) for each in requests]
        scored = self._scored(pairs, is_quiet=disable_tqdm or not sys.stderr.isatty())
        for each, score in zip(requests, scored, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", each.args, score.logprob)
        return [each.logprob for each in scored]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return what the model writes after each context, up to a stop string.

        Args:
            requests: Pairs of a context and how to write.
            disable_tqdm: As for `loglikelihood`.

        Raises:
            ConfigError: If a task asks for a way of writing that there is not.
        """
        engine = Engine(self.lm, max_sequences=self._batch_size)
        arguments: list[tuple[Any, ...]] = [each.args for each in requests]
        index_of = {
            engine.add(
                Request(
                    self._prefix + self.tok_encode(context),
                    sampling_params(generation, seed=index),
                )
            ): index
            for index, (context, generation) in enumerate(arguments)
        }
        texts: dict[int, str] = {}
        is_quiet = disable_tqdm or not sys.stderr.isatty()
        with tqdm(total=len(requests), desc="Writing", disable=is_quiet) as bar:
            while len(texts) < len(requests):
                for output in engine.step():
                    if output.error is not None:
                        raise output.error
                    if output.generation is not None:
                        index = index_of[output.id]
                        text = texts[index] = output.generation.text
                        self.cache_hook.add_partial("generate_until", arguments[index], text)
                        bar.update()
        return [texts[index] for index in range(len(requests))]

    def _scored(self, pairs: list[tuple[list[int], list[int]]], *, is_quiet: bool) -> list[Scored]:
        with tqdm(total=len(pairs), desc="Scoring", disable=is_quiet) as bar:
            scored = score_continuations(
                self.lm,
                pairs,
                batch_size=self._batch_size,
                forks=self._forks,
                on_scored=bar.update,
            )
        # The likeliest of choices that are all nan would be the first, and an accuracy like any.
        if wrong := [each.logprob for each in scored if not math.isfinite(each.logprob)]:
            raise DataError(
                f"the log-probabilities of all texts must be finite, but {len(wrong):,} of "
                f"{len(scored):,} are not ({wrong[0]}): did the model diverge in its training?"
            )
        return scored

    def _opening(self, context: list[int]) -> list[int]:
        """Return what is fed before a continuation: at least one token."""
        return self._prefix + context or [self.eot_token_id]


register_model("receptance")(HarnessModel)


def sampling_params(generation: Mapping[str, Any], *, seed: int = 0) -> SamplingParams:
    """Return how a task wants to be written; greedily, unless it says otherwise.

    Args:
        generation: The task's `generation_kwargs`.
        seed: Where it samples.

    Raises:
        ConfigError: If there is no such way.
    """
    given: dict[str, Any] = {**normalize_gen_kwargs(dict(generation), MAX_TOKENS)}
    options: dict[str, Any] = {"max_tokens": given.pop("max_gen_toks"), "seed": seed}
    options["stop"] = tuple(each for each in given.pop("until") if each)
    samples, beams = given.pop("do_sample"), given.pop("num_beams", 1)
    for name, kind in _SAMPLING.items():
        if name in given:
            options[name] = kind(given.pop(name))
    if given or beams != 1:
        wrong = sorted(given) or ["num_beams"]
        raise ConfigError(
            f"`generation_kwargs` must be among until, max_gen_toks, do_sample, "
            f"{', '.join(_SAMPLING)}, but there is {wrong[0]!r}; leave it out of the task"
        )
    if not samples:
        options["temperature"] = 0.0
    try:
        return SamplingParams(**options)
    except ValueError as error:
        raise ConfigError(f"`generation_kwargs` of a task: {error}") from error
