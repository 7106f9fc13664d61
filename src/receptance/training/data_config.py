"""What a run reads: one token store or several, and in which portions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from receptance.data import source_shares
from receptance.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One of several token stores."""

    name: str
    """What it is called in figures."""
    store: str
    """Its folder, relative to where the command is run."""
    weight: float = 1.0
    """Its share of the samples, relative to the other weights."""
    store_sha256: str = ""
    """The store's `sha256`; empty for that of the store which is there when the run begins."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a step sees."""

    store: str | None = None
    """The token store's folder, relative to where the command is run."""
    store_sha256: str = ""
    """The store's `sha256`; empty for that of the store which is there when the run begins."""
    sources: tuple[SourceConfig, ...] = ()
    """Instead of `store`: several, mixed."""
    ctx_len: int = 1024
    """Tokens that a step reads of each sequence."""
    segments: int = 1
    """Steps over which a sample is read, `ctx_len` tokens each, the state but no gradient going on
    from step to step: a sample has `segments` · `ctx_len` tokens."""
    batch_size: int = 16
    """Sequences in a step."""
    later_batch_size: int = 0
    """Sequences in a step from `later_batch_step` on; 0 for as many as before."""
    later_batch_step: int = 0
    """The first step, counted from 0, of `later_batch_size` sequences."""
    micro_batch_size: int = 0
    """Sequences that a rank computes at once, their gradients accumulated; 0 for all it has."""
    reset_at_documents: bool = False
    """Whether a document begins with the zero state, or reads on from the one before it."""
    order: Literal["permuted", "authors"] = "permuted"
    """Of the samples: another in each epoch, by the seed; or that of RWKV-LM, one for all."""

    def __post_init__(self) -> None:
        self._check_sources()
        for name in ("ctx_len", "segments", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`data.{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("later_batch_size", "later_batch_step"):
            if getattr(self, name) < 0:
                raise ConfigError(f"`data.{name}` must not be negative, got {getattr(self, name)}")
        if bool(self.later_batch_size) != bool(self.later_batch_step):
            raise ConfigError(
                "`data.later_batch_size` and `data.later_batch_step` must both be given or neither,"
                f" got {self.later_batch_size} and {self.later_batch_step}"
            )
        if self.later_batch_step % self.segments:
            raise ConfigError(
                "`data.later_batch_step` must be a multiple of `data.segments`, "
                f"{self.segments}, so that no sample is cut short, got {self.later_batch_step}"
            )
        micro = self.micro_batch_size
        for name in ("batch_size", "later_batch_size"):
            if micro < 0 or (micro and getattr(self, name) % micro):
                raise ConfigError(
                    f"`data.micro_batch_size` must divide `data.{name}`, {getattr(self, name)}, "
                    f"got {micro}"
                )

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes of the batches of the run, in their order."""
        return tuple(size for size in (self.batch_size, self.later_batch_size) if size)

    @property
    def stores(self) -> dict[str, str]:
        """The folder of each token store by its source's name, which is "" where it has none."""
        if self.store is not None:
            return {"": self.store}
        return {each.name: each.store for each in self.sources}

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each source by its name; empty where there is but a store."""
        return {each.name: each.weight for each in self.sources}

    def with_hashes(self, hashes: Mapping[str, str]) -> "DataConfig":
        """Return the same with the hash of each store, by the names that `stores` has."""
        if self.store is not None:
            return replace(self, store_sha256=hashes[""])
        sources = tuple(replace(each, store_sha256=hashes[each.name]) for each in self.sources)
        return replace(self, sources=sources)

    def without_places(self) -> "DataConfig":
        """Return the same without where stores lie: what decides the numbers of a run."""
        if self.store is not None:
            return replace(self, store="")
        return replace(self, sources=tuple(replace(each, store="") for each in self.sources))

    def _check_sources(self) -> None:
        """Raise unless there is a store, or sources that can be mixed."""
        if (self.store is None) == (not self.sources):
            found = "neither" if self.store is None else "both"
            raise ConfigError(
                "`data` must have either `store`, for one token store, or `sources`, for several "
                f"that are mixed, but it has {found}"
            )
        if not self.sources:
            return
        if self.store_sha256:
            raise ConfigError(
                "`data.store_sha256` must not be given beside `data.sources`, each of which has "
                f"its own, got {self.store_sha256!r}"
            )
        if self.order != "permuted":
            raise ConfigError(
                "`data.order` must be 'permuted' with `data.sources`, for the other is an order of "
                f"one store, got {self.order!r}"
            )
        names = [each.name for each in self.sources]
        for name in names:
            if not name or not name.isprintable() or names.count(name) > 1:
                raise ConfigError(
                    "each of `data.sources` must have a `name` of its own, of characters that can "
                    f"be printed, got {name!r} among {names}"
                )
        source_shares(self.weights)
