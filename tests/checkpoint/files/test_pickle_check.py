"""Only what `torch.save` writes of a state dict goes through, and all of that does."""

import io
import zipfile
from collections import OrderedDict

import pytest
import torch

from receptance.checkpoint.files.pickle_check import check_pickle
from tests.hostile import pickle_writer as p
from tests.hostile import pickles
from tests.random_models import random_rwkv4

REFUSED = [*pickles.acting_pickles()]


def pickled(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    with zipfile.ZipFile(content) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return archive.read(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_state_dict_passes(dtype):
    state = random_rwkv4().to(dtype).state_dict()
    check_pickle(pickled(state))
    check_pickle(pickled(dict(state)))
    check_pickle(pickled(OrderedDict((n, torch.nn.Parameter(w)) for n, w in state.items())))


def test_plain_values_pass():
    value = {"a": 1, "b": "x", "c": 0.5, "d": True, "e": 2**40, 3: None, "f": torch.zeros(2)}
    check_pickle(pickled(value))


def test_one_storage_of_many_tensors_passes():
    whole = torch.zeros(4, 4)
    check_pickle(pickled({"a": whole, "b": whole[1:], "c": whole.T}))


@pytest.mark.parametrize(("name", "body"), REFUSED, ids=[name for name, _ in REFUSED])
def test_what_acts_is_refused(name, body):
    del name
    with pytest.raises(ValueError, match=r"."):
        check_pickle(p.whole(body))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (p.called(p.name_of("builtins", "bytearray"), p.integer(3 << 30)), "builtins.bytearray"),
        (p.EMPTY_DICT + p.EMPTY_TUPLE + p.NONE + p.SETITEM, "neither a text nor a number"),
        (p.NONE + p.TUPLE1 * 4, "tuples in tuples in tuples"),
        (p.MARK * 50, "values within values without end"),
        (p.EMPTY_LIST + p.EMPTY_LIST + p.APPEND, "a list to a list"),
        (p.get(7), "LONG_BINGET in its pickle lacks what it works on"),
        (p.REDUCE, "REDUCE in its pickle lacks what it works on"),
        (p.ORDERED_DICT + p.dictionary({"items": p.NONE}) + p.BUILD, "a state to what has none"),
        (p.NONE * 300_001, "more than 300,000 opcodes"),
        (p.storage(p.text("0"), p.integer(-1)), "holds no numbers"),
        (p.storage(p.text("0"), p.integer(1), "Tensor"), "it asks for 'torch.Tensor'"),
        (p.called(p.name_of("collections", "OrderedDict"), p.NONE), "with what that does not take"),
    ],
)
def test_what_would_take_all_is_refused(body, words):
    with pytest.raises(ValueError, match=words):
        check_pickle(p.whole(body))


def test_a_pickle_without_an_end_is_refused():
    with pytest.raises(ValueError, match="pickle exhausted before seeing STOP"):
        check_pickle(p.NONE)
