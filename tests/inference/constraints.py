"""Constraints as simple as can be, for the tests of what keeps them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


class OneOf:
    """The text is one of a few lists of tokens, none of which begins another."""

    def __init__(self, texts: Sequence[Sequence[int]], vocab_size: int = 256) -> None:
        self.left = [list(each) for each in texts]
        self.vocab_size = vocab_size
        self.accepted: list[int] = []

    @property
    def is_over(self) -> bool:
        return not any(self.left)

    def allowed(self) -> Bool[Tensor, " V"]:
        mask = torch.zeros(self.vocab_size, dtype=torch.bool)
        mask[[each[0] for each in self.left]] = True
        return mask

    def accept(self, token: int) -> None:
        self.accepted.append(token)
        self.left = [each[1:] for each in self.left if each[0] == token]


class Broken(OneOf):
    """Fails where it is told to, with a word that names the place."""

    def __init__(self, place: str, vocab_size: int = 256) -> None:
        super().__init__([[7, 8, 9]], vocab_size)
        self.place = place

    @property
    def is_over(self) -> bool:
        if self.place == "is_over" and self.accepted:
            raise OSError(self.place)
        return super().is_over

    def allowed(self) -> Bool[Tensor, " V"]:
        if self.place == "allowed":
            raise OSError(self.place)
        return super().allowed()

    def accept(self, token: int) -> None:
        if self.place == "accept":
            raise OSError(self.place)
        super().accept(token)
