"""Training as processes see it: killed and started again, and shared by two of them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from tests.support.project import Project, make_pictures

ONE_THREAD = {
    "OMP_NUM_THREADS": "1"
}  # as torchrun sets it; and threads on busy cores wait for each other


def prepare(small: Project) -> None:
    for name in ("gather", "verify", "split"):
        small.stage(name)


def arguments(name: str) -> list[str]:
    return [
        "--table",
        "data/split.csv",
        "--model",
        f"models/{name}.safetensors",
        "--metrics",
        f"metrics/{name}",
    ]


def outputs(project: Project, name: str) -> list[bytes]:
    files = (f"models/{name}.safetensors", f"metrics/{name}.csv", f"metrics/{name}.json")
    return [(project.path / file).read_bytes() for file in files]


def kill_after_a_checkpoint(project: Project, name: str) -> None:
    """Start a training and send it SIGKILL once it has left the state of an epoch of the whole model."""
    checkpoint = project.path / f"models/.{name}.checkpoint"
    command = [sys.executable, "-m", "stages.train", *arguments(name)]
    process = subprocess.Popen(
        command,
        cwd=project.path,
        env={**os.environ, **ONE_THREAD},
        stderr=subprocess.PIPE,
        text=True,
    )
    seen, deadline = set(), time.monotonic() + 120
    while len(seen) < 2 and process.poll() is None and time.monotonic() < deadline:
        if checkpoint.exists():
            seen.add(
                checkpoint.stat().st_ino
            )  # a new file each time: of the frozen epochs, of the first whole one
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert checkpoint.exists()


def test_dvc_repro_takes_a_killed_training_to_the_same_bytes(small: Project):
    small.edit(**{"train.epochs": 8, "train.ema": 0.9, "train.mixup": 0.2})
    prepare(small)
    small.stage("train", *arguments("whole"), **ONE_THREAD)
    assert not (small.path / "models/.whole.checkpoint").exists()
    kill_after_a_checkpoint(small, "first")
    assert not (small.path / "models/first.safetensors").exists()
    for name in ("models/first.safetensors", "metrics/train.csv", "metrics/lr_find.json"):
        (small.path / name).write_text(
            "{}"
        )  # outs of an older run, which DVC removes first, and a dep
    subprocess.run(["git", "init", "-q"], cwd=small.path, check=True)
    assert small.run("dvc", "init", "-q").returncode == 0
    done = small.run("dvc", "repro", "--single-item", "train", **ONE_THREAD)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "going on after epoch" in done.stderr + done.stdout
    files = ("models/first.safetensors", "metrics/train.csv", "metrics/train.json")
    assert [(small.path / file).read_bytes() for file in files] == outputs(small, "whole")
    assert not (small.path / "models/.first.checkpoint").exists()


def test_other_params_do_not_go_on_from_what_was_left(small: Project):
    small.edit(**{"train.epochs": 8})
    prepare(small)
    kill_after_a_checkpoint(small, "killed")
    small.edit(**{"train.lr": 0.001, "train.epochs": 2})
    done = small.stage("train", *arguments("killed"), **ONE_THREAD)
    assert "going on" not in done.stderr
    small.stage("train", *arguments("whole"), **ONE_THREAD)
    assert outputs(small, "killed") == outputs(small, "whole")


def test_two_processes_train_the_model_of_one(small: Project):
    make_pictures(small.path / "data/own", {"blue": 11})  # another weight than the other classes'
    small.edit(**{"train.batch_size": 9, "train.lr": [0.01, 0.01]})  # shares of unequal size
    small.edit(**{"train.mixup": 0.4, "train.class_weights": "balanced"})
    prepare(small)
    small.stage("train", *arguments("one"), **ONE_THREAD)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = small.run(*torchrun, "-m", "stages.train", *arguments("two"), **ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("at the last epoch") == 1  # only one of them reports and writes
    one, two = (load_file(small.path / f"models/{name}.safetensors") for name in ("one", "two"))
    difference = max(np.abs(one[name] - two[name]).max() for name in one)
    assert (
        difference < 1e-5
    )  # 3e-7 was measured; shares that are weighted wrongly, or not split, give 1e-2
    tables = [pd.read_csv(small.path / f"metrics/{name}.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)
    figures = [
        json.loads((small.path / f"metrics/{name}.json").read_text()) for name in ("one", "two")
    ]
    assert figures[0]["train_pictures"] == figures[1]["train_pictures"]
    assert not list((small.path / "models").glob(".*"))


def test_a_sweep_without_descent_is_said_to_be_one_and_auto_refuses_it(small: Project):
    prepare(small)
    small.edit(
        **{"lr_find.start_lr": 1e-9, "lr_find.end_lr": 1e-8, "train.class_weights": "balanced"}
    )
    assert (
        "lr_find: no suggestion: the loss never fell" in small.stage("lr_find", **ONE_THREAD).stderr
    )
    assert json.loads((small.path / "metrics/lr_find.json").read_text())["valley"] is None
    small.edit(**{"train.lr": "auto"})
    assert "train.lr is 'auto', but lr_find found no valley" in small.failing_stage(
        "train", *arguments("x")
    )


def test_a_picture_that_is_gone_is_named(small: Project):
    prepare(small)
    table = pd.read_csv(small.path / "data/split.csv")
    gone = table.loc[table["split"] == "train", "path"].iloc[0]
    (small.path / gone).unlink()
    assert f"{gone} cannot be read" in small.failing_stage("train", *arguments("x"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_same_bytes_twice(small: Project, precision):
    small.edit(
        **{
            "compute.device": "cuda",
            "train.precision": precision,
            "train.mixup": 0.4,
            "train.ema": 0.9,
        }
    )
    prepare(small)
    for name in ("one", "two"):
        small.stage("train", *arguments(name))
    assert outputs(small, "one") == outputs(small, "two")
