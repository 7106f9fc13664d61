"""Which parameters of a model move: all of them, or a few beside its frozen weights."""

import difflib
from dataclasses import dataclass, fields
from typing import Literal

from receptance.errors import ConfigError

LAYERS = (
    "att.key",
    "att.value",
    "att.receptance",
    "att.output",
    "ffn.key",
    "ffn.receptance",
    "ffn.value",
)
"""The matrices of a layer, by the authors' names."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """What of the model at `training.init_from` is trained."""

    method: Literal["", "full", "state", "lora"] = ""
    """"full": all weights. "state": none of them, but the state that every sequence begins with.
    "lora": none, but matrices of low rank that are added to them. Empty: all weights, whether they
    begin with those of another model or not."""
    rank: int = 8
    """Of the matrices that "lora" adds."""
    alpha: float = 16.0
    """What is added is scaled by alpha / rank."""
    dropout: float = 0.0
    """The share of numbers set to zero in what enters these matrices."""
    targets: tuple[str, ...] = LAYERS
    """The matrices of each layer to which "lora" adds; all of them by default."""

    def __post_init__(self) -> None:
        plain = {each.name: each.default for each in fields(self) if each.name != "method"}
        given = [name for name, value in plain.items() if getattr(self, name) != value]
        if given and self.method != "lora":
            raise ConfigError(
                f"`finetune.{given[0]}` must be left out unless `finetune.method` is 'lora', but "
                f"it is {getattr(self, given[0])!r} and the method {self.method!r}"
            )
        if self.rank < 1:
            raise ConfigError(f"`finetune.rank` must be at least 1, got {self.rank}")
        if self.alpha <= 0:
            raise ConfigError(f"`finetune.alpha` must be above 0, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"`finetune.dropout` must lie in [0, 1), got {self.dropout}")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ConfigError(
                "`finetune.targets` must name at least one layer and none twice, got "
                f"{list(self.targets)}"
            )
        for target in self.targets:
            if target not in LAYERS:
                near = difflib.get_close_matches(target, LAYERS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {list(LAYERS)}"
                raise ConfigError(
                    f"`finetune.targets` must name matrices of a layer, got {target!r}; {hint}"
                )

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
        if self.is_partial and parallel == "fsdp2":
            raise ConfigError(
                f"`training.parallel` must be 'ddp' or 'none' where `finetune.method` is "
                f"{self.method!r}, whose frozen weights each rank holds whole, got {parallel!r}"
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
