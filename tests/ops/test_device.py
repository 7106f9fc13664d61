"""A device is found by its name, or missed by it."""

import pytest
import torch

from receptance.ops.device import device_of, upload


@pytest.mark.parametrize(("n_gpus", "expected"), [(0, "cpu"), (2, "cuda")])
def test_auto_is_the_first_gpu_that_there_is(monkeypatch, n_gpus, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)

    assert device_of("auto") == torch.device(expected)


def test_a_gpu_has_the_number_by_which_it_was_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert device_of("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"PyTorch .* sees 2, got 'cuda:2'; use 'cpu' or 'auto'"):
        device_of("cuda:2")


def test_what_is_no_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    assert device_of("cpu").type == "cpu"
    with pytest.raises(ValueError, match=r"`device` must be 'auto' or one such as .*, got 'gpu!'"):
        device_of("gpu!")
    with pytest.raises(ValueError, match=r"sees 0, got 'cuda'"):
        device_of("cuda")


def test_what_is_uploaded_to_the_cpu_is_there_already():
    tensor = torch.ones(3)
    assert upload(tensor, torch.device("cpu")) is tensor
    assert upload(tensor, torch.device("meta")).is_meta
