"""What PyTorch is told of an op beside its kernels: what it returns, and how to differentiate it.

An op that has gradients is two: one that goes forward, and one that goes backward. The ops
themselves are made where their kernels are, in C++ or by `torch.library.custom_op`.
"""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["register_backward", "register_forward"]


def register_forward(
    op: str,
    fake: Callable[..., Any],
    save: Callable[..., None],
    differentiate: Callable[..., Any],
) -> None:
    """Tell PyTorch what an op returns, and its gradients.

    Args:
        op: Its name in `torch.ops.receptance`.
        fake: Takes the arguments, and returns empty tensors of the results' shapes and dtypes.
            Trailing arguments that have their defaults may be left out.
        save: Takes a context, all arguments and the results, and keeps what backward needs.
        differentiate: Takes the context and the results' gradients, and returns one for each
            argument, None where there is none.
    """
    torch.library.register_fake(f"receptance::{op}", fake)
    torch.library.register_autograd(f"receptance::{op}", differentiate, setup_context=save)


def register_backward(op: str, fake: Callable[..., Any], of: str) -> None:
    """Tell PyTorch what an op returns, and that it has no gradients: it is one itself.

    Asking for them raises a NotImplementedError that says what to do.

    Args:
        op: Its name in `torch.ops.receptance`.
        fake: As for `register_forward`.
        of: What it is the gradient of, for the message: an implementation and the name of its op.
    """

    def refuse(*_: Any) -> Any:
        message = f"the {of} has no second derivative; pass implementation='reference'"
        raise NotImplementedError(message)

    register_forward(op, fake, _save_nothing, refuse)


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep nothing for a backward that refuses."""
