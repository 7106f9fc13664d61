"""What training minimises, as one module: data parallelism and compilation are put around it."""

from jaxtyping import Bool, Int
from torch import Tensor, nn

from receptance.models import RWKV4, RWKV4State
from receptance.quantization import QuantizedLinear
from receptance.training.optimization.loss import Loss, language_model_loss
from receptance.training.optimization.precision import autocast


class Objective(nn.Module):
    """A model with its loss.

    The logits are an inner matter of the loss, so that those of a whole batch never exist at once.
    """

    def __init__(self, model: RWKV4, *, auxiliary: float, precision: str) -> None:
        """Wrap `model`, whose parameters stay its own.

        Args:
            model: What is trained.
            auxiliary: The weight of the auxiliary loss.
            precision: Of the matrix products, "bfloat16" or "float32".
        """
        super().__init__()
        self.model = model
        self.auxiliary = auxiliary
        self.precision = precision

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        state: RWKV4State | None,
        resets: Bool[Tensor, "B T"] | None,
        counted: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Loss, RWKV4State]:
        """Return the mean loss over the tokens that count, and the state after the last one."""
        with autocast(self.precision, tokens.device.type):
            x, state = self.model.features(tokens, state, resets=resets)
            head = self.model.head
            weight = head.packed_weight() if isinstance(head, QuantizedLinear) else head.weight
            loss = language_model_loss(
                x, weight, targets, auxiliary=self.auxiliary, counted=counted
            )
        return loss, state
