"""How many processes of this machine share a training."""

import importlib

import psutil
import pytest
import torch

from pawprint.compute import listening
from pawprint.params import StageError
from pawprint.training.device import ComputeParams, choose_device
from pawprint.training.launch import processes_wanted


@pytest.mark.parametrize(
    ("gpus", "params", "most", "count"),
    [
        (0, {}, 9, 1),
        (4, {}, 9, 4),
        (4, {}, 3, 3),  # a batch, or the valid split, has no more pictures
        (4, {"workers": 2}, 9, 2),
        (4, {"workers": 8}, 9, 4),
        (4, {"device": "cpu"}, 9, 1),
        (0, {"workers": 2}, 9, 2),
    ],
)
def test_all_gpus_are_used_unless_params_say_otherwise(
    monkeypatch: pytest.MonkeyPatch, gpus: int, params: dict, most: int, count: int
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    compute = ComputeParams(**{"device": "auto", "threads": 0, **params})
    assert processes_wanted(compute, most) == count
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")  # one of several already
    assert processes_wanted(compute, most) == 1


@pytest.mark.parametrize(("cuda", "device"), [(False, "mps"), (True, "cuda")])
def test_an_apple_gpu_is_taken_if_there_is_no_other(monkeypatch, cuda: bool, device: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == device
    assert choose_device("mps").type == "mps"
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_without_the_gpu_that_is_wanted_the_line_names_the_param(monkeypatch, kind: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(StageError, match=f"compute.device is '{kind}'.* should be auto or cpu"):
        choose_device(kind)


def test_the_store_of_a_training_listens_on_its_address_alone(monkeypatch: pytest.MonkeyPatch):
    own = psutil.Process()
    before = set(own.net_connections("tcp"))
    for name in listening.USERS:  # put back after the test
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "TCPStore", module.TCPStore)
    listening.listen_on_one_address()
    store = module.TCPStore("127.0.0.1", 0, 1, is_master=True, multi_tenant=True)
    store.set("said", "heard")
    assert store.get("said") == b"heard"
    new = set(own.net_connections("tcp")) - before
    heard = [each.laddr for each in new if each.status == psutil.CONN_LISTEN]
    assert heard == [("127.0.0.1", store.port)]
