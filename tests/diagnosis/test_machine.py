"""The machine is told as it is."""

import os
import warnings
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

from receptance.diagnosis import machine


def test_versions_are_those_of_the_packages_and_none_for_an_absent_one(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "numpy", "no_such_package", "json"))
    found = machine.versions()

    assert found["torch"] == torch.__version__
    assert found["numpy"] == metadata.version("numpy")
    assert found["no_such_package"] is None
    assert found["json"] == "not installed by a package"


def test_the_processor_is_told_as_pytorch_and_the_kernels_use_it():
    found = machine.processor()
    assert found.threads == torch.get_num_threads()
    assert 1 <= found.usable_cores <= (os.cpu_count() or 1)
    assert found.torch_instruction_set == torch.backends.cpu.get_cpu_capability()


def test_a_pytorch_for_the_cpu_says_that_it_is_one(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    found, no_gpu = machine.devices()

    assert [each.name for each in found] == ["cpu"]
    assert no_gpu == f"this PyTorch, {torch.__version__}, is built for the CPU alone"
    if found[0].available_bytes is not None:
        assert 0 < found[0].available_bytes <= (found[0].total_bytes or 0)


def test_what_pytorch_says_of_a_driver_that_does_not_work_is_the_reason(monkeypatch):
    def warn() -> bool:
        warnings.warn("the driver is too old. (Triggered internally at x.cpp)", stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", warn)
    assert machine.devices()[1] == "the driver is too old."


def test_a_gpu_of_any_vendor_is_listed_with_its_memory(monkeypatch):
    card = SimpleNamespace(name="A card", total_memory=2**33, major=9, minor=0)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**32, 2**33))
    found, no_gpu = machine.devices()

    assert no_gpu is None
    assert [each.name for each in found] == ["cpu", "cuda:0", "cuda:1"]
    gpu = found[2]
    assert (gpu.description, gpu.capability) == ("A card", "9.0")
    assert (gpu.available_bytes, gpu.total_bytes) == (2**32, 2**33)


@pytest.mark.parametrize("exists", [True, False])
def test_the_cache_has_the_room_of_its_disk_even_before_it_is_there(tmp_path, monkeypatch, exists):
    folder = tmp_path / "home" / "hub"
    if exists:
        folder.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    found = machine.cache()

    assert (found.folder, found.exists) == (str(folder), exists)
    assert found.free_bytes > 0
    assert folder.exists() == exists


def test_a_driver_is_known_by_what_it_puts_into_the_system(tmp_path, monkeypatch):
    (tmp_path / "card").touch()
    places = {"One": tmp_path / "card", "Other": tmp_path / "nothing"}
    monkeypatch.setattr(machine, "_DRIVERS", places)
    assert machine.drivers() == ["One"]
