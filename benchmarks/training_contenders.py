"""What `bench_training.py` compares: each contender's training step, in a process of its own.

    python benchmarks/training_contenders.py ours 512

builds the contender and then takes one command a line on stdin, a word, and answers each with a
line of JSON on stdout. All have the same sizes, the same batch, matrix products in bfloat16
(autocast), gradients clipped to a norm of 1 and the fused AdamW.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from receptance.data import Batch
from receptance.models import RWKV4, RWKV4Config
from receptance.ops.linear_cross_entropy.chunked import chunk_tokens
from receptance.training import (
    Objective,
    build_optimizer,
    keep_freed_memory,
    parse_config,
    training_step,
)

N_LAYER, N_EMBD, VOCAB_SIZE, BATCH_SIZE = 6, 512, 8192, 4

MATRIX_OPS = {"aten::mm", "aten::addmm", "aten::bmm"}


def random_tokens(n_tokens: int) -> Tensor:
    """Return the batch: a row more than it has tokens, so that each has its target."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB_SIZE, (BATCH_SIZE, n_tokens + 1), generator=generator)


def ours(n_tokens: int) -> Callable[[], object]:
    """Return the step of `receptance train`."""
    entries = {
        "name": "bench",
        "model": {"n_layer": N_LAYER, "n_embd": N_EMBD, "vocab_size": VOCAB_SIZE},
        "data": {"store": "", "ctx_len": n_tokens, "batch_size": BATCH_SIZE},
        "training": {"steps": 1},
    }
    config = parse_config(entries, "the benchmark")
    model = RWKV4(RWKV4Config(n_layer=N_LAYER, n_embd=N_EMBD, vocab_size=VOCAB_SIZE))
    model.init_weights()
    objective = Objective(
        model, auxiliary=config.training.auxiliary_loss, precision=config.training.precision
    )
    optimizer = build_optimizer(model, config.optimizer)
    tokens = random_tokens(n_tokens)
    resets = torch.zeros(BATCH_SIZE, n_tokens, dtype=torch.bool)
    batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), resets)
    return lambda: training_step(config, objective, optimizer, batch)


def gpt_neox(n_tokens: int) -> Callable[[], object]:
    """Return a step of transformers' GPT-NeoX of the same width and depth."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM  # noqa: PLC0415 (slow to import)

    config = GPTNeoXConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=N_EMBD,
        num_hidden_layers=N_LAYER,
        num_attention_heads=N_EMBD // 64,
        intermediate_size=4 * N_EMBD,
        max_position_embeddings=n_tokens,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config)
    assert model.config._attn_implementation == "sdpa"  # its default, the fast one
    return transformers_step(model, n_tokens)


def rwkv(n_tokens: int) -> Callable[[], object]:
    """Return a step of transformers' RWKV-4 of the same sizes."""
    from transformers import RwkvConfig, RwkvForCausalLM  # noqa: PLC0415 (slow to import)

    config = RwkvConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=N_EMBD,
        num_hidden_layers=N_LAYER,
        context_length=n_tokens,
        use_cache=False,
    )
    return transformers_step(RwkvForCausalLM(config), n_tokens)


def transformers_step(model: nn.Module, n_tokens: int) -> Callable[[], object]:
    """Return a step of a model of `transformers`, which computes its own loss."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, fused=True)
    tokens = random_tokens(n_tokens)[:, :-1].contiguous()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


CONTENDERS = {"ours": ours, "GPTNeoXForCausalLM": gpt_neox, "RwkvForCausalLM": rwkv}


def seconds_of(run: Callable[[], object]) -> float:
    """Return how long `run` takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def matrix_seconds(n_tokens: int) -> float:
    """Return how long the matrix products of one of our steps take alone.

    Of every matrix W [n_out, n_in] there are three, x Wᵀ forward and g W and gᵀ x backward, each
    over all tokens; the head's over a chunk of them at a time, as in the step.
    """
    N, V, D = BATCH_SIZE * n_tokens, VOCAB_SIZE, N_EMBD
    chunk = min(chunk_tokens(V, torch.bfloat16), N)
    total = product_seconds(chunk, V, D) * N / chunk
    # Of each layer: key, value, receptance and output of the time mix, receptance of the channel
    # mix; its key; its value.
    for count, n_out, n_in in ((5, D, D), (1, 4 * D, D), (1, D, 4 * D)):
        total += N_LAYER * count * product_seconds(N, n_out, n_in)
    return total


def product_seconds(N: int, n_out: int, n_in: int, repeats: int = 3) -> float:
    """Return the medians of the three products' times, added up."""
    x, weight, grad = (
        torch.ones(shape).bfloat16() for shape in ((N, n_in), (n_out, n_in), (N, n_out))
    )
    products = (lambda: x @ weight.t(), lambda: grad @ weight, lambda: grad.t() @ x)
    return sum(statistics.median(seconds_of(each) for _ in range(repeats)) for each in products)


def shares(step: Callable[[], object]) -> dict[str, float]:
    """Return of a profiled step which share of its time matrix products and WKV have."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        seconds = seconds_of(step)
    spent = {each.key: each.self_cpu_time_total / 1e6 for each in profiled.key_averages()}
    top = sorted(spent, key=lambda name: -spent[name])[:12]
    return {
        "matrix_share": sum(spent.get(name, 0.0) for name in MATRIX_OPS) / seconds,
        # Forward, the profiler books an op under the autograd node that it is called by.
        "wkv_share": sum(spent[name] for name in spent if "wkv4" in name) / seconds,
        **{f"share of {name}": spent[name] / seconds for name in top},
    }


def peak_memory_bytes() -> int:
    """Return the most that this process ever held, of Linux's own accounts."""
    status = Path("/proc/self/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def serve(name: str, n_tokens: int, *, keeps_memory: bool) -> None:
    """Build the contender and obey."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not be taken for an answer
    keeps_memory = keeps_memory and keep_freed_memory()
    torch.manual_seed(1)
    step = CONTENDERS[name](n_tokens)
    commands: dict[str, Callable[[], Any]] = {
        "step": lambda: seconds_of(step),
        "matrices": lambda: matrix_seconds(n_tokens),
        "shares": lambda: shares(step),
        "memory": peak_memory_bytes,
        "threads": torch.get_num_threads,
        "keeps_memory": lambda: keeps_memory,
    }
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), keeps_memory="--keep-memory" in sys.argv[3:])
