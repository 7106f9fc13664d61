"""Who may keep how many states, and who has them back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from receptance.errors import RequestError
from receptance.inference import LanguageModel
from receptance.models import RWKV4, State
from receptance.quantization import FORMATS, quantize_model
from receptance.serving.settings import Settings
from receptance.serving.state_store import Kept, MemoryShelf, StateStore
from tests.random_models import random_rwkv4, with_matrices


def store_of(lm: LanguageModel, shelf: Any = None, **limits: Any) -> StateStore:
    like, mark = lm.zero_state(), lm.fingerprint
    return StateStore(shelf or MemoryShelf(), Settings(**limits), like=like, fingerprint=mark)


def small() -> RWKV4:
    return random_rwkv4(2, 64, 40)


def code_of(refusal: pytest.ExceptionInfo[RequestError]) -> tuple[int, str | None]:
    return refusal.value.status, refusal.value.code


def test_an_owner_has_back_what_was_kept_the_latest_first(lm: LanguageModel):
    store = store_of(lm)
    state = lm.prefill("a")
    kept = store.reserve("me").keep("one", 1, state)
    there, found = store.read("me", kept.id)
    assert there == kept
    assert all(map(torch.equal, found.tensors.values(), state.tensors.values()))
    assert store.of_owner("me") == [kept]
    assert store.of_owner("you") == []


def test_a_place_that_is_promised_is_taken_until_it_is_left(lm: LanguageModel):
    store = store_of(lm, max_states_per_key=1)
    place = store.reserve("me")
    with pytest.raises(RequestError) as refusal:
        store.reserve("me")
    assert code_of(refusal) == (409, "too_many_states")
    store.reserve("you")
    place.leave()
    place.leave()
    again = store.reserve("me")
    again.keep("", 1, lm.prefill("a"))
    again.leave()
    with pytest.raises(RequestError):
        store.reserve("me")


def test_all_together_take_no_more_than_they_may(lm: LanguageModel):
    n_bytes = sum(each.nbytes for each in lm.zero_state().tensors.values())
    store = store_of(lm, states_bytes=2 * n_bytes)
    kept = store.reserve("me").keep("", 1, lm.prefill("a"))
    store.reserve("you")
    with pytest.raises(RequestError) as refusal:
        store.reserve("me")
    assert code_of(refusal) == (429, "states_full")
    store.remove("me", kept.id)
    store.reserve("me")


@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_state_of_the_same_weights_in_another_dtype_is_taken_as_it_is(dtypes: tuple[str, str]):
    models = (with_matrices(small(), getattr(torch, each)) for each in dtypes)
    made, taken = (LanguageModel(each, None) for each in models)
    _, state = made.forward([1, 2, 3])
    sender, receiver = store_of(made), store_of(taken)
    kept = sender.reserve("me").keep("", 3, state)
    content = sender.content("me", kept.id)

    _, found = receiver.read("me", receiver.import_content(receiver.reserve("me"), content).id)
    assert all(map(torch.equal, found.tensors.values(), state.tensors.values()))
    assert torch.equal(taken.forward([4], found)[0], taken.forward([4], state)[0])


def test_a_state_of_the_weights_before_they_were_quantized_is_refused_by_name():
    plain = LanguageModel(small(), None)
    rounded = LanguageModel(quantize_model(small(), FORMATS["int8"]), None)
    for made, taken in ((plain, rounded), (rounded, plain)):
        sender, receiver = store_of(made), store_of(taken)
        kept = sender.reserve("me").keep("", 1, made.forward([1])[1])
        content, place = sender.content("me", kept.id), receiver.reserve("me")
        with pytest.raises(RequestError) as refusal:
            receiver.import_content(place, content)
        assert code_of(refusal) == (400, "invalid_state")
        assert f"fingerprint {taken.fingerprint[:16]}" in str(refusal.value)
        assert "quantized as it was" in str(refusal.value)


class SlowShelf(MemoryShelf):
    """A place that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.is_free = threading.Event(), threading.Event()

    def put(self, kept: Kept, state: State) -> None:
        self.is_asked.set()
        assert self.is_free.wait(10)
        super().put(kept, state)


def test_a_place_that_is_left_while_a_state_is_written_is_taken_until_the_end(lm: LanguageModel):
    store = store_of(lm, shelf := SlowShelf(), max_states_per_key=1)
    place, state = store.reserve("me"), lm.prefill("a")
    with ThreadPoolExecutor(1) as threads:
        keeping = threads.submit(place.keep, "", 1, state)
        assert shelf.is_asked.wait(10)
        place.leave()
        place.abandon()
        with pytest.raises(RequestError, match="at most 1 states"):
            store.reserve("me")
        shelf.is_free.set()
        keeping.result()
    assert store.of_owner("me") == []
    store.reserve("me")


def test_a_state_that_nobody_was_told_of_is_forgotten(lm: LanguageModel):
    store = store_of(lm, max_states_per_key=1)
    place = store.reserve("me")
    place.keep("", 1, lm.prefill("a"))
    place.leave()
    assert len(store.of_owner("me")) == 1
    place.abandon()
    place.abandon()
    assert store.of_owner("me") == []
    store.reserve("me").abandon()
    store.reserve("me")


def test_nothing_is_kept_in_a_place_that_was_left(lm: LanguageModel):
    store = store_of(lm)
    place = store.reserve("me")
    place.leave()
    with pytest.raises(RequestError) as refusal:
        place.keep("", 1, lm.prefill("a"))
    assert code_of(refusal) == (499, "client_left")
    assert store.of_owner("me") == []


class BrokenShelf(MemoryShelf):
    """A place that takes nothing."""

    def put(self, kept: Kept, state: State) -> None:
        del kept, state
        raise OSError(28, "/secret/place")


def test_what_cannot_be_written_is_told_without_a_path_and_takes_no_place(lm: LanguageModel):
    store = store_of(lm, BrokenShelf(), max_states_per_key=1)
    for _ in range(2):
        with pytest.raises(RequestError, match="cannot be written") as refusal:
            store.reserve("me").keep("", 1, lm.prefill("a"))
        assert code_of(refusal) == (503, "state_not_written")
        assert "secret" not in str(refusal.value)


def test_a_file_says_what_a_state_is_called_and_has_seen(lm: LanguageModel):
    store = store_of(lm)
    kept = store.reserve("me").keep("ünï", 12, lm.prefill("a"))
    again = store.import_content(store.reserve("you"), store.content("me", kept.id))
    assert (again.name, again.tokens, again.owner) == ("ünï", 12, "you")


@pytest.mark.parametrize("notes", [{"tokens": "-1"}, {"tokens": "1" * 17}, {"tokens": "٣"}])
def test_a_file_whose_count_is_none_is_refused(lm: LanguageModel, notes: dict[str, str]):
    store = store_of(lm)
    with pytest.raises(RequestError, match="`tokens`"):
        store.import_content(store.reserve("me"), lm.zero_state().to_bytes(lm.fingerprint, notes))


def test_half_a_character_in_a_name_does_not_come_out_again(lm: LanguageModel):
    store = store_of(lm)
    content = lm.zero_state().to_bytes(lm.fingerprint, {"name": "a\ud800b"})
    assert store.import_content(store.reserve("me"), content).name == "a?b"


def test_a_file_of_another_model_is_refused(lm: LanguageModel):
    store = store_of(lm)
    content = lm.zero_state().to_bytes("another")
    with pytest.raises(RequestError, match="must be a state of this model") as refusal:
        store.import_content(store.reserve("me"), content)
    assert code_of(refusal) == (400, "invalid_state")
