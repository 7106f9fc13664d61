"""Text to tokens and back: raw bytes, byte-level BPE, and the RWKV World vocabulary.

All three give back exactly the text they were given (a `tokenizer.json` may normalise it first),
keep token 0 for the end of a text, and never make that token from anything written in a text.
This room does without PyTorch.
"""

from receptance.tokenizer.bpe import BPETokenizer
from receptance.tokenizer.bpe_training import train_bpe
from receptance.tokenizer.byte import BytesTokenizer
from receptance.tokenizer.detokenize import Detokenizer
from receptance.tokenizer.load import load_tokenizer
from receptance.tokenizer.parallel import WorkerLostError, encoded, n_cores
from receptance.tokenizer.protocol import Tokenizer
from receptance.tokenizer.world import WorldTokenizer

__all__ = [
    "BPETokenizer",
    "BytesTokenizer",
    "Detokenizer",
    "Tokenizer",
    "WorkerLostError",
    "WorldTokenizer",
    "encoded",
    "load_tokenizer",
    "n_cores",
    "train_bpe",
]
