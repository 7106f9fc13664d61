"""A Transformer of `transformers`, trained by the steps that train our model.

Batches and their order, the optimizer and its groups, the learning rate of each step, the
arithmetic, the loss and the clipping are those of the package, out of the same settings; only the
network is another one.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from receptance.atomic import atomic_file
from receptance.cli.run_data import run_batches
from receptance.data import TokenStore
from receptance.evaluation.documents import Document
from receptance.evaluation.perplexity import Score
from receptance.evaluation.reading import Passage, Reader, passages, windows
from receptance.models import RWKV4State
from receptance.training import (
    Loss,
    RunConfig,
    autocast,
    build_optimizer,
    config_to_toml,
    keep_freed_memory,
    language_model_loss,
    plan_step,
    samples_before,
    training_step,
)
from receptance.training.optimization import set_learning_rate

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM

HEAD_DIM = 64
MATRICES_A_LAYER = 13
"""Of RWKV-4, in D²; a Transformer has 4 in its attention, so 9 are left for its two others."""


def matched_gpt_neox(
    n_layer: int, n_embd: int, vocab_size: int, ctx_len: int, seed: int
) -> "GPTNeoXForCausalLM":
    """Return a GPT-NeoX of the depth and width of an RWKV-4, and of as many parameters.

    It is Pythia's: rotary positions on a quarter of each head, attention and feed-forward side by
    side, an embedding and a head of their own, and Pythia's initial values (all matrices
    N(0, 2 / (5 D)), those that write to the stream N(0, (2 / (L sqrt(D)))²)). Its feed-forward is
    4.5 D wide instead of 4 D, which makes the matrices of a layer the 13 D² of RWKV-4.

    Args:
        n_layer: L.
        n_embd: D, a multiple of 64, which is the width of a head.
        vocab_size: V.
        ctx_len: The most tokens that it is to read.
        seed: Decides the initial values.
    """
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=vocab_size,
            hidden_size=n_embd,
            num_hidden_layers=n_layer,
            num_attention_heads=n_embd // HEAD_DIM,
            intermediate_size=(MATRICES_A_LAYER - 4) * n_embd // 2,
            max_position_embeddings=ctx_len,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
            tie_word_embeddings=False,
        )
    )
    small, wang = math.sqrt(2 / (5 * n_embd)), 2 / (n_layer * math.sqrt(n_embd))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("attention.dense.weight", "dense_4h_to_h.weight"))
            nn.init.normal_(parameter, std=wang if writes else small)
    return model


def n_parameters(model: nn.Module) -> int:
    """Return how many numbers a model has."""
    return sum(each.numel() for each in model.parameters())


class TransformerObjective(nn.Module):
    """A Transformer with our loss, as `receptance.training.training_step` takes it."""

    def __init__(self, model: "GPTNeoXForCausalLM", *, auxiliary: float, precision: str) -> None:
        """Wrap `model`, whose parameters stay its own."""
        super().__init__()
        self.model = model
        self.auxiliary = auxiliary
        self.precision = precision

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor,
        state: RWKV4State | None,
        resets: Tensor | None,
        counted: Tensor | None = None,
    ) -> tuple[Loss, RWKV4State]:
        """Return the mean loss, and a state of no layers: a Transformer has none."""
        assert state is None
        assert resets is None
        with autocast(self.precision, tokens.device.type):
            x = transformer_features(self.model, tokens)
            head = self.model.get_output_embeddings().weight
            loss = language_model_loss(x, head, targets, auxiliary=self.auxiliary, counted=counted)
        return loss, RWKV4State(*[x.new_zeros(0, len(tokens), 0, dtype=torch.float32)] * 5)


def transformer_features(model: "GPTNeoXForCausalLM", tokens: Tensor) -> Tensor:
    """Return what the head reads, [B, T, D]."""
    return model.gpt_neox(input_ids=tokens, use_cache=False).last_hidden_state


class TrainedTransformer(NamedTuple):
    """A run that has ended."""

    model: "GPTNeoXForCausalLM"
    losses: list[float]
    """In nats a token, of each step."""
    valid: list[tuple[int, float]]
    """What `validate` found, and after how many steps."""


def train_transformer(
    config: RunConfig,
    store: TokenStore,
    model: "GPTNeoXForCausalLM",
    folder: Path,
    *,
    validate: "Callable[[GPTNeoXForCausalLM], float] | None" = None,
    until: int | None = None,
) -> TrainedTransformer:
    """Train a Transformer by a run's settings, or return the one that is trained already.

    The weights, the optimizer's moments and the losses are kept in `folder` as often as the run
    says; a run that was killed goes on there and ends with the same numbers.

    Args:
        config: The run; what it says of the model is not used.
        store: The tokens.
        model: With its initial values; it is changed.
        folder: Of the run.
        validate: Measures the model, whenever a checkpoint is written.
        until: The step to stop after; None for the last one.

    Raises:
        SystemExit: If `folder` has a run of other settings.
    """
    keep_freed_memory()
    n_steps = config.training.steps
    optimizer = build_optimizer(model, config.optimizer)
    objective = TransformerObjective(
        model, auxiliary=config.training.auxiliary_loss, precision=config.training.precision
    )
    settings = f"{config_to_toml(config)}\n{store.sha256}\n{n_parameters(model)}"
    folder.mkdir(parents=True, exist_ok=True)
    losses, valid = _resume(folder, settings, model, optimizer)
    batches = run_batches({"": store}, config)
    end = n_steps if until is None else until
    for step in range(len(losses), end):
        plan = plan_step(config, step)
        set_learning_rate(optimizer, plan.lr)
        batch = batches.batch(samples_before(config.data, step), plan.batch_size)
        result = training_step(config, objective, optimizer, batch, step=step)
        losses.append(result.loss)
        done = step + 1
        if done % config.every.checkpoint_steps == 0 or done == end:
            if validate is not None:
                valid.append((done, validate(model)))
            kept = {"settings": settings, "losses": losses, "valid": valid}
            _save(folder, kept, model, optimizer)
            print(f"{folder.name}: step {done}/{n_steps}, loss {losses[-1]:.3f}", flush=True)
    return TrainedTransformer(model, losses, valid)


def _save(
    folder: Path, kept: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Keep all that a run needs to go on."""
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_file(folder / "checkpoint.pt") as staged:
        torch.save({**kept, **states}, staged)


def _resume(
    folder: Path, settings: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[list[float], list[tuple[int, float]]]:
    """Put back what was kept; return the losses of the steps that are done, and validations."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return [], []
    kept = torch.load(path, weights_only=True)
    if kept["settings"] != settings:
        raise SystemExit(f"{path} is of a run with other settings; remove it, or use other --work")
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    return kept["losses"], kept["valid"]


class TransformerReader(Reader):
    """A Transformer that reads passages, each from its start, for it remembers nothing."""

    def __init__(self, model: "GPTNeoXForCausalLM") -> None:
        """Read with `model`."""
        self.transformer = model
        self.device = torch.device("cpu")

    def features(self, passage: Passage) -> Tensor:
        """Return what the model gives to its head for each of `passage.is_counted`, in order."""
        assert passage.is_start
        return transformer_features(self.transformer, passage.tokens)[passage.is_counted]

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits of some of these tokens."""
        return self.transformer.get_output_embeddings()(features)


def score_in_windows(
    reader: Reader, documents: Sequence[Document], *, end_of_text: int, window: int
) -> Score:
    """Return what documents cost, read in windows that overlap by half, each from nothing.

    The same tokens are predicted from the same ones before, whatever reads.
    """
    spans = windows(documents, window, window // 2)
    with torch.no_grad():
        nats = sum(
            float(reader.nats(passage).sum())
            for passage in passages(
                documents, end_of_text=end_of_text, batch_size=16, chunk=window, spans=spans
            )
        )
    return Score(
        nats=float(nats),
        n_tokens=sum(each.n_counted for each in documents),
        n_bytes=sum(each.n_bytes for each in documents),
    )
