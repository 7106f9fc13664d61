"""Which parameters of a model move: all of them, or a few beside its frozen weights."""

from dataclasses import dataclass
from typing import Literal

from receptance.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """What of the model at `training.init_from` is trained."""

    method: Literal["", "full", "state"] = ""
    """"full": all weights. "state": none of them, but the state that every sequence begins with.
    Empty: all weights, whether they begin with those of another model or not."""

    @property
    def is_partial(self) -> bool:
        """Whether the weights of the model stay as they are."""
        return self.method not in ("", "full")

    def check(
        self, *, init_from: str, segments: int, reset_at_documents: bool, parallel: str
    ) -> None:
        """Raise a ConfigError unless the rest of the run goes with the method.

        Args:
            init_from: The run's `training.init_from`.
            segments: Its `data.segments`.
            reset_at_documents: Its `data.reset_at_documents`.
            parallel: Its `training.parallel`.
        """
        if not self.method:
            return
        if not init_from:
            raise ConfigError(
                "`training.init_from` must name the model that is fine-tuned where "
                f"`finetune.method` is {self.method!r}, but it is empty"
            )
        if self.is_partial and parallel != "none":
            raise ConfigError(
                f"`training.parallel` must be 'none' where `finetune.method` is {self.method!r}, "
                f"which several ranks cannot share yet, got {parallel!r}"
            )
        if self.method != "state":
            return
        if segments > 1:
            raise ConfigError(
                "`data.segments` must be 1 where `finetune.method` is 'state', since only the "
                f"first segment of a sample begins with the state that is trained, got {segments}"
            )
        if reset_at_documents:
            raise ConfigError(
                "`data.reset_at_documents` must be false where `finetune.method` is 'state': a "
                f"reset goes to the zero state, not to the trained one, got {reset_at_documents}"
            )
