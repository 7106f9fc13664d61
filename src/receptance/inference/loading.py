"""From a path to a language model that is ready to use."""

from pathlib import Path

from receptance.checkpoint import load_checkpoint
from receptance.inference.language_model import LanguageModel
from receptance.ops.device import device_of, sum_in_float32
from receptance.ops.shortage import explaining_shortage
from receptance.tokenizer import Tokenizer


def load(
    path: str | Path,
    *,
    dtype: str | None = None,
    quantize: str | None = None,
    device: str = "cpu",
    tokenizer: Tokenizer | str | Path | None = None,
    adapter: str | Path | None = None,
) -> LanguageModel:
    """Return the language model at `path`: a folder or file of RWKV-4, here or on the hub.

    Args:
        path: A model folder, a Hugging Face folder, an authors' .pth, an rwkv.cpp .bin, or a name
            on the hub: "owner/name", "owner/name@revision" or "owner/name/file.pth". An
            initial_state.safetensors in a model folder becomes the state from which the model
            starts.
        dtype: Of the matrices, "float32", "bfloat16" or "float16"; None is as stored. On the CPU
            float16 becomes float32, and the log says so.
        quantize: What the matrices are rounded to while they are read, "int8" or "int4"; None is
            as stored. It excludes `dtype`.
        device: Where the model computes: "cpu", "cuda", another device of PyTorch, or "auto" for a
            GPU if there is one. For a GPU, products of bfloat16 add up in float32 in this process
            from now on (`torch.backends.cuda.matmul`).
        tokenizer: A tokenizer, or a source for `load_tokenizer`; None is the one beside the
            weights.
        adapter: The file of an adapter for this model: merged into its weights, before they are
            rounded if `quantize` says so; beside them, as `LanguageModel.with_adapter` has it, if
            they are stored rounded.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged, hostile or of another model;
            or the adapter is.
        StateError: If the initial state is damaged or of another model.
        TokenizerError: If the tokenizer cannot be read.
        ValueError: If `dtype` or `quantize` is unknown, or both are given, or `device` is not
            there.
        MemoryShortageError: If the device, or the machine, has not the memory for it.
    """
    checked_device = device_of(device)
    sum_in_float32(checked_device)
    with explaining_shortage(
        f"loading {str(path)!r}", checked_device, lambda: _remedies(dtype, quantize)
    ):
        checkpoint = load_checkpoint(
            path,
            dtype=dtype,
            quantize=quantize,
            tokenizer=tokenizer,
            adapter=adapter,
            device=checked_device,
        )
        model = checkpoint.model.to(checked_device)
        lm = LanguageModel(model, checkpoint.tokenizer, path=checkpoint.path, skips_zeros=True)
    if checkpoint.adapter is not None:
        return lm.with_adapter(lm.load_adapter(checkpoint.adapter))
    if checkpoint.initial_state is None:
        return lm
    return lm.starting_from(lm.load_state(checkpoint.initial_state))


def _remedies(dtype: str | None, quantize: str | None) -> str:
    """Return what takes less memory than a model in these, as the end of a sentence."""
    if quantize == "int4":
        return "take a smaller model, or end what else takes memory"
    rounded = "4 bits (quantize='int4', --quantize int4)"
    if quantize is None:
        rounded = f"8 bits (quantize='int8', --quantize int8) or {rounded}"
    narrower = "in bfloat16 (dtype='bfloat16', --dtype bfloat16), or "
    is_wide = quantize is None and dtype not in ("bfloat16", "float16")
    return f"load it {narrower if is_wide else ''}rounded to {rounded}"
