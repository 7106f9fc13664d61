"""The RWKV-4 model: its sizes, how it is made, and what its forward gives."""

import re

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from receptance.errors import ConfigError
from receptance.models import PRESETS, RWKV4, RWKV4Config, RWKV4State
from receptance.models.linear import Linear
from receptance.ops.wkv4 import WKV4State
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import ALGEBRA, BFLOAT16_LOGITS, EXACT, GRADIENT

# The paper's table 2, to the unit: L, D, parameters, floating-point operations per token.
TABLE_2 = {
    "169m": (12, 768, 169_342_464, 261_250_560),
    "430m": (24, 1024, 430_397_440, 757_278_720),
    "1.5b": (24, 2048, 1_515_106_304, 2_823_180_288),
    "3b": (32, 2560, 2_984_627_200, 5_710_013_440),
    "7b": (32, 4096, 7_392_649_216, 14_370_512_896),
    "14b": (40, 5120, 14_148_597_760, 27_777_812_480),
}


@pytest.fixture(scope="module")
def model() -> RWKV4:
    return random_rwkv4(dtype=torch.float64)


@pytest.mark.parametrize("name", TABLE_2)
def test_the_published_sizes_are_those_of_the_papers_table(name):
    n_layer, n_embd, n_parameters, flops = TABLE_2[name]
    config = RWKV4Config.preset(name)
    assert config == RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=50277)
    assert config.n_parameters == n_parameters
    assert config.flops_per_token == flops


@pytest.mark.parametrize("name", TABLE_2)
def test_the_parameters_of_a_model_are_as_many_as_the_formula_says(name):
    with torch.device("meta"):
        model = RWKV4(RWKV4Config.preset(name))
    assert sum(each.numel() for each in model.parameters()) == TABLE_2[name][2]
    assert list(model.buffers()) == []


def test_the_presets_are_the_table_and_no_more():
    assert list(PRESETS) == list(TABLE_2)
    assert RWKV4Config.preset("169m", vocab_size=256).vocab_size == 256


@pytest.mark.parametrize("name", ["169M", "100b", ""])
def test_an_unknown_preset_is_a_config_error_that_lists_the_known(name):
    with pytest.raises(ConfigError) as caught:
        RWKV4Config.preset(name)
    assert str(caught.value) == f"a preset must be one of {list(TABLE_2)}, got {name!r}"


def test_names_and_shapes_are_those_of_the_authors_checkpoints():
    V, C, L = 11, 8, 2
    with torch.device("meta"):
        model = RWKV4(RWKV4Config(n_layer=L, n_embd=C, vocab_size=V))
    expected = {"emb.weight": [V, C], "head.weight": [V, C]}
    norms = ["ln_out", "blocks.0.ln0"]
    for layer in range(L):
        block = f"blocks.{layer}"
        norms += [f"{block}.ln1", f"{block}.ln2"]
        expected |= {f"{block}.att.time_{vector}": [C] for vector in ("decay", "first")}
        expected |= {f"{block}.att.time_mix_{mix}": [1, 1, C] for mix in "kvr"}
        expected |= {f"{block}.ffn.time_mix_{mix}": [1, 1, C] for mix in "kr"}
        for matrix in ("key", "value", "receptance", "output"):
            expected[f"{block}.att.{matrix}.weight"] = [C, C]
        expected[f"{block}.ffn.key.weight"] = [4 * C, C]
        expected[f"{block}.ffn.value.weight"] = [C, 4 * C]
        expected[f"{block}.ffn.receptance.weight"] = [C, C]
    expected |= {f"{norm}.{each}": [C] for norm in norms for each in ("weight", "bias")}
    assert {name: list(each.shape) for name, each in model.state_dict().items()} == expected


class OpNames(TorchDispatchMode):
    """Writes down the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


def test_making_a_model_computes_nothing_and_draws_no_random_number():
    before = torch.get_rng_state()
    with OpNames() as ops:
        RWKV4(RWKV4Config(n_layer=2, n_embd=8, vocab_size=11))
    assert torch.equal(torch.get_rng_state(), before)
    assert ops.names <= {"empty", "fill_", "zero_"}  # LayerNorm fills in ones and zeros


def test_features_and_head_are_the_forward(model):
    tokens = random_tokens(2, 7)
    logits, state = model(tokens)
    x, state_of_features = model.features(tokens)
    assert x.shape == (2, 7, 24)
    assert torch.equal(model.head(x), logits)
    assert_close(state_of_features.tensors, state.tensors, **EXACT)


def test_last_only_gives_the_last_logits(model):
    tokens = random_tokens(2, 7)
    logits, state = model(tokens)
    last, last_state = model(tokens, last_only=True)
    assert last.shape == (2, 1, 40)
    assert_close(last, logits[:, -1:], **ALGEBRA)
    assert_close(last_state.tensors, state.tensors, **EXACT)


def test_no_state_is_the_zero_state(model):
    tokens = random_tokens(2, 7)
    assert torch.equal(model(tokens)[0], model(tokens, model.zero_state(2))[0])
    zero = model.zero_state(2)
    for name, tensor in zero.tensors.items():
        assert tensor.shape == (3, 2, 24)
        assert torch.equal(tensor, torch.full_like(tensor, -1e38 if name == "log_scale" else 0.0))


def test_a_state_is_five_vectors_a_layer():
    with torch.device("meta"):
        model = RWKV4(RWKV4Config.preset("169m"))
    tensors = model.zero_state(1).tensors
    assert list(tensors) == ["time_mix_x", "channel_mix_x", "num", "den", "log_scale"]
    assert sum(tensor.numel() for tensor in tensors.values()) == 46_080
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_a_state_is_never_changed(model):
    tokens = random_tokens(2, 7)
    _, state = model(tokens)
    copy = state.clone()
    model(tokens, state)
    model(tokens, state, resets=torch.ones(2, 7, dtype=torch.bool))
    assert_close(state.tensors, copy.tensors, **EXACT)


def test_a_reset_forgets_the_state_in_token_shift_and_wkv_alike(model):
    tokens = random_tokens(2, 7)
    _, used = model(random_tokens(2, 5, seed=8))
    resets = torch.zeros(2, 7, dtype=torch.bool)
    resets[0, 0] = True
    logits, _ = model(tokens, used, resets=resets)
    assert_close(logits[:1], model(tokens[:1])[0], **ALGEBRA)
    assert_close(logits[1:], model(tokens, used)[0][1:], **ALGEBRA)


def test_gradients_flow_through_the_state_between_two_calls():
    model, tokens = random_rwkv4(2, 8, 11, dtype=torch.float64), random_tokens(2, 9, 11)
    weights = list(model.parameters())
    expected = torch.autograd.grad(model(tokens)[0].sin().sum(), weights)

    first, state = model(tokens[:, :4])
    second, _ = model(tokens[:, 4:], state)
    found = torch.autograd.grad(first.sin().sum() + second.sin().sum(), weights)
    assert_close(found, expected, **GRADIENT)

    cut, _ = model(tokens[:, 4:], state.detach())
    truncated = torch.autograd.grad(model(tokens[:, :4])[0].sin().sum() + cut.sin().sum(), weights)
    assert any(not torch.allclose(a, b) for a, b in zip(truncated, expected, strict=True))


def test_gradients_are_those_of_finite_differences():
    model, tokens = random_rwkv4(1, 3, 5, dtype=torch.float64), random_tokens(1, 4, 5)
    _, state = model(random_tokens(1, 2, 5, seed=4))
    state = state.detach()
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(*parameters):
        found, _ = torch.func.functional_call(
            model, dict(zip(names, parameters, strict=True)), (tokens, state)
        )
        return found

    assert torch.autograd.gradcheck(logits, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_model(dtype):
    logits, state = random_rwkv4(2, 8, 11, dtype=dtype)(random_tokens(1, 4, 11))
    assert logits.dtype == dtype
    assert {tensor.dtype for tensor in state.tensors.values()} == {dtype}


def narrow(model: RWKV4) -> RWKV4:
    """Give a model's matrices bfloat16 and leave it all else."""
    for module in model.modules():
        if isinstance(module, Linear | torch.nn.Embedding):
            module.to(torch.bfloat16)
    return model


@torch.no_grad()
def test_matrices_in_bfloat16_give_nearly_the_same_logits_and_a_float32_state():
    tokens = random_tokens(2, 40, 61)
    expected, wide_state = random_rwkv4(4, 64, 61)(tokens)
    logits, state = narrow(random_rwkv4(4, 64, 61))(tokens)
    assert logits.dtype == torch.float32
    assert {tensor.dtype for tensor in state.tensors.values()} == {torch.float32}
    error = (logits - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < BFLOAT16_LOGITS
    average, wide_average = (each.num / each.den for each in (state, wide_state))
    assert (average - wide_average).square().mean() < (3 * BFLOAT16_LOGITS) ** 2


@torch.no_grad()
def test_a_bfloat16_model_split_anywhere_is_the_same_model():
    model, tokens = narrow(random_rwkv4(3, 32, 61)), random_tokens(1, 12, 61)
    whole, _ = model(tokens)
    first, state = model(tokens[:, :5])
    second, _ = model(tokens[:, 5:], state)
    error = (torch.cat([first, second], dim=1) - whole).abs().max()
    assert error < BFLOAT16_LOGITS * whole.square().mean().sqrt()


def test_one_token_and_many_sequences_are_nothing_special(model):
    logits, state = model(random_tokens(5, 1))
    assert logits.shape == (5, 1, 40)
    assert state.batch_size == 5


def test_no_token_is_a_value_error(model):
    with pytest.raises(ValueError, match=r"^`tokens` must hold at least one token, got "):
        model(torch.zeros(2, 0, dtype=torch.int64))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_state_of_another_number_of_sequences_is_a_value_error(model, batch):
    with pytest.raises(ValueError, match="state") as caught:
        model(random_tokens(2, 3), model.zero_state(batch))
    assert str(caught.value) == (
        f"`state` must be [L, B, C] = [3, 2, 24] for this model and these tokens, got "
        f"[3, {batch}, 24]; was it made by another model, or for another number of sequences?"
    )


def test_a_state_of_another_model_is_a_value_error(model):
    other = random_rwkv4(3, 16, dtype=torch.float64).zero_state(2)
    with pytest.raises(ValueError, match=re.escape("got [3, 2, 16]; was it made by another model")):
        model(random_tokens(2, 3), other)


def test_a_state_of_another_precision_is_a_value_error(model):
    other = random_rwkv4().zero_state(2)
    with pytest.raises(ValueError, match=r"must be torch\.float64 to go with"):
        model(random_tokens(2, 3), other)


@pytest.mark.unhooked
def test_resets_of_another_shape_are_a_value_error(model):
    with pytest.raises(ValueError, match="resets") as caught:
        model(random_tokens(2, 3), resets=torch.zeros(2, 4, dtype=torch.bool))
    assert str(caught.value) == "`resets` must have the shape of `tokens`, [2, 3], got [2, 4]"


@pytest.mark.unhooked
def test_tokens_without_a_batch_are_a_value_error(model):
    with pytest.raises(ValueError, match="tokens") as caught:
        model(torch.zeros(3, dtype=torch.int64))
    assert str(caught.value) == "`tokens` must have the shape [B, T], got [3]"


def test_state_classes_name_their_architecture():
    assert RWKV4State.architecture == RWKV4Config.architecture == "rwkv4"


def test_without_training_dropout_does_nothing():
    plain, tokens = random_rwkv4(), random_tokens(2, 7)
    model = RWKV4(plain.config, dropout=0.5)
    model.load_state_dict(plain.state_dict())
    model.eval()
    assert torch.equal(model(tokens)[0], plain(tokens)[0])


def test_in_training_dropout_is_random_and_right_on_average():
    plain, tokens = random_rwkv4(1, 16, 11, dtype=torch.float64), random_tokens(1, 3, 11)
    model = RWKV4(plain.config, dropout=0.25).double()
    model.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    first, second = model(tokens)[0], model(tokens)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(model(tokens)[0], first)
    # What is dropped is 0 and the rest is scaled: with all matrices and norms out of the way, the
    # stream is the embedding with a quarter of it gone.
    for block in model.blocks:
        for weight in block.parameters():
            if weight.ndim == 2:
                torch.nn.init.zeros_(weight)
    x = model.get_submodule("blocks.0.ln0")(model.emb(tokens))
    states = (torch.zeros(1, 16).double(), torch.zeros(1, 16).double())
    wkv = WKV4State.zeros(1, 16, dtype=torch.float64)
    stream, _ = model.blocks[0](model.emb(tokens), *states, wkv, None)
    kept = stream != 0
    assert_close(stream, torch.where(kept, x / 0.75, 0.0), **ALGEBRA)
    assert 0.5 < kept.double().mean() < 0.95


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2.0])
def test_a_dropout_that_is_no_share_is_a_value_error(dropout):
    with pytest.raises(ValueError, match="dropout") as caught:
        RWKV4(RWKV4Config(n_layer=1, n_embd=4, vocab_size=5), dropout=dropout)
    assert str(caught.value) == f"`dropout` must lie in [0, 1), got {dropout}"


def test_autocast_computes_products_in_bfloat16_and_keeps_the_stream_in_float32():
    model, tokens = random_rwkv4(2, 32, 61), random_tokens(2, 20, 61)
    exact, _ = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        logits, state = model(tokens)
        narrow = model.head(torch.ones(1, 32))
    assert narrow.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in state.tensors.values()} == {torch.float32}
    error = (logits - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 0 < error < BFLOAT16_LOGITS
