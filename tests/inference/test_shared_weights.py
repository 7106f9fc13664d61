"""What is made of weights is made once, whoever asks for it."""

import gc
import weakref

from receptance.inference.shared_weights import SharedWeights
from tests.random_models import random_changes, random_rwkv4


def test_they_are_packed_and_hashed_once(monkeypatch):
    model = random_rwkv4(1, 8, 17)
    weights = SharedWeights(model, skips_zeros=False)
    packed, fingerprint = weights.packed, weights.fingerprint
    monkeypatch.setattr(model, "pack", None)
    monkeypatch.setattr(model, "fingerprint", None)

    assert weights.packed is packed
    assert weights.fingerprint == fingerprint == random_rwkv4(1, 8, 17).fingerprint()


def test_a_model_with_changes_is_made_once_and_goes_with_them():
    weights = SharedWeights(random_rwkv4(1, 8, 17), skips_zeros=True)
    changes = random_changes(weights.model)
    changed = weakref.ref(weights.changed(changes))

    gc.collect()
    assert weights.changed(changes) is changed()

    del changes
    gc.collect()
    assert changed() is None
