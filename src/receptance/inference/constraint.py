"""What a text may be: a grammar or any other rule that says which tokens may come next."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor


@runtime_checkable
class Constraint(Protocol):
    """The rule of one text, and how far that text has come in it.

    An engine asks `allowed`, tells the token that it chose by `accept`, and so on until `is_over`
    or until the text ends for another reason. What a constraint raises ends its own text only.
    """

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow: then the text ends, with "stop" as its reason."""
        ...

    def allowed(self) -> Bool[Tensor, " V"]:
        """Return which tokens may come next, for each of the tokenizer's V tokens.

        The one that ends a text may come where the text may end.
        """
        ...

    def accept(self, token: int) -> None:
        """Go on by a token that was chosen.

        Args:
            token: One that was allowed, and not the one that ends a text.
        """
        ...
