"""A device is found by its name, or missed by it."""

import pytest
import torch

from receptance.ops.device import device_of, sum_in_float32, upload, upload_into


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


@pytest.mark.parametrize(("device", "may_round"), [("cpu", True), ("cuda:1", False)])
def test_products_of_a_gpu_round_no_part_of_a_sum(parts_may_be_rounded, device, may_round):
    sum_in_float32(torch.device(device))
    assert parts_may_be_rounded() == may_round


@pytest.mark.gpu
@pytest.mark.usefixtures("parts_may_be_rounded")
def test_a_long_sum_of_bfloat16_is_rounded_once_on_a_gpu():
    sum_in_float32(torch.device("cuda"))
    generator = torch.Generator().manual_seed(0)
    # Few numbers that are long sums, which a library cuts into parts; all positive, so that an
    # order of float32 sums moves them by far less than a rounding to bfloat16.
    a, b = (torch.rand(64, 1 << 17, generator=generator).bfloat16() for _ in range(2))
    found = (a.cuda() @ b.cuda().T).cpu().double()
    exact = a.double() @ b.double().T
    # Half a last place is 2^-9 at most, and float32's own errors may choose the neighbour.
    assert ((found - exact).abs() <= exact * (2**-9 + 2**-16)).all()


def test_what_is_uploaded_to_the_cpu_is_there_already():
    tensor = torch.ones(3)
    assert upload(tensor, torch.device("cpu")) is tensor
    assert upload(tensor, torch.device("meta")).is_meta


def test_what_is_uploaded_into_a_tensor_is_written_over_it():
    target = torch.zeros(2, 3, dtype=torch.int64)
    upload_into(target[1], torch.tensor([4, 5, 6], dtype=torch.int32))
    assert target.tolist() == [[0, 0, 0], [4, 5, 6]]
    upload_into(torch.empty(3, device="meta"), torch.ones(3))


@pytest.mark.gpu
def test_an_upload_is_what_the_tensor_was_whatever_becomes_of_it():
    device, tensor = torch.device("cuda", 0), torch.ones(1000)
    target = torch.zeros(1000, device=device)
    _ = [tensor.pin_memory() for _ in range(2)]  # to take new memory for it may wait
    torch.cuda._sleep(100_000_000)
    uploaded = upload(tensor, device)
    upload_into(target, tensor)
    assert not torch.cuda.current_stream().query()  # the GPU sleeps, and was not waited for
    tensor.zero_()
    assert torch.equal(uploaded, target)
    assert uploaded.sum() == 1000
    assert upload(uploaded, device) is uploaded
