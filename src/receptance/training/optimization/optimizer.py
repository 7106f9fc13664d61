"""AdamW over RWKV's groups of parameters."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW

from receptance.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW as the authors use it. The learning rate given here is the schedule's peak."""

    lr: float = 6e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0
    """For matrices only: not for vectors of decays, mixes and norms, nor for the embedding."""
    grad_clip: float = 1.0
    """The largest norm of the whole gradient; a longer one is scaled down to it."""
    time_decay_lr_multiplier: float = 1.0
    time_first_lr_multiplier: float = 1.0
    """The authors' later models: 2 for `time_decay` and 3 for `time_first`."""

    def __post_init__(self) -> None:
        positive = (
            "lr",
            "eps",
            "grad_clip",
            "time_decay_lr_multiplier",
            "time_first_lr_multiplier",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"`optimizer.{name}` must be above 0, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ConfigError(
                f"`optimizer.weight_decay` must not be negative, got {self.weight_decay}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"`optimizer.betas` must lie in [0, 1), got {self.betas}")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> AdamW:
    """Return AdamW over what of `model` takes gradients, grouped by what moves it.

    Every group has an `lr_multiplier`, by which `set_learning_rate` scales the schedule.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = _lr_multiplier(name, config), _weight_decay(name, parameter, config)
        groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "lr_multiplier": multiplier, "weight_decay": weight_decay}
            for (multiplier, weight_decay), parameters in groups.items()
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def set_learning_rate(optimizer: AdamW, lr: float) -> None:
    """Set the rate of each group to `lr` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]


def clip_gradient(parameters: Iterable[nn.Parameter], norm: float, longest: float) -> None:
    """Scale the whole gradient down to the norm `longest`, where its `norm` is above it.

    A shorter one is not touched: to multiply by 1 would cost a reading and writing of all of it.
    """
    gradients = [each.grad for each in parameters if each.grad is not None]
    if norm > longest and gradients:
        # A few launches on a GPU, where one by one there would be one for each parameter.
        torch._foreach_mul_(gradients, longest / norm)  # pyright: ignore[reportPrivateImportUsage]


def _lr_multiplier(name: str, config: OptimizerConfig) -> float:
    if name.endswith(".time_decay"):
        return config.time_decay_lr_multiplier
    return config.time_first_lr_multiplier if name.endswith(".time_first") else 1.0


def _weight_decay(name: str, parameter: nn.Parameter, config: OptimizerConfig) -> float:
    is_matrix = parameter.ndim == 2 and name != "emb.weight"
    return config.weight_decay if is_matrix else 0.0
