"""Make `rwkv4-golden.safetensors`; see README.md in this folder.

Run from the repository root: python -m tests.assets.make_rwkv4_golden
"""

from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.oracles import AuthorsOracle
from tests.random_models import random_rwkv4, random_tokens

N_LAYER, N_EMBD, VOCAB_SIZE = 3, 48, 97
N_PROMPT, N_SINGLE = 64, 16
SEED = 230_513_048

# Where the authors' package keeps a layer's five vectors.
STATE = {"time_mix_x": 0, "num": 1, "den": 2, "log_scale": 3, "channel_mix_x": 4}


def main() -> None:
    """Write the weights, the tokens, and what the authors' package makes of them."""
    model = random_rwkv4(N_LAYER, N_EMBD, VOCAB_SIZE, seed=SEED)
    tokens = random_tokens(1, N_PROMPT + N_SINGLE, VOCAB_SIZE, seed=SEED)
    oracle = AuthorsOracle(model)
    logits, state = oracle(tokens[:, :N_PROMPT])
    rows = [logits]
    for t in range(N_PROMPT, N_PROMPT + N_SINGLE):
        logits, state = oracle(tokens[:, t : t + 1], state)
        rows.append(logits)
    tensors = {f"weights.{name}": each for name, each in model.state_dict().items()}
    tensors |= {"tokens": tokens[0], "logits": torch.cat(rows)}
    for name, place in STATE.items():
        tensors[f"state.{name}"] = torch.stack(state[place::5])
    # One entry only: safetensors writes several in an order that changes from run to run.
    metadata = {"made_with": f"rwkv {version('rwkv')}, torch {version('torch')}"}
    save_file(tensors, Path(__file__).with_name("rwkv4-golden.safetensors"), metadata)


if __name__ == "__main__":
    main()
