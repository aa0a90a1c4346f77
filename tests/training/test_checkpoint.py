"""A training's state on disk: whose it is, and that it is read without running code."""

import torch

from pawprint.training.checkpoint import Checkpoint, fingerprint


def test_a_checkpoint_of_another_training_or_a_broken_one_is_left_alone(tmp_path):
    path = tmp_path / ".x.checkpoint"
    Checkpoint(path, "one").save(rows=[], phase="full")
    assert Checkpoint(path, "one").load() == {"rows": [], "phase": "full", "fingerprint": "one"}
    assert Checkpoint(path, "other").load() is None
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, "one").load() is None
    path.write_bytes(b"")
    assert Checkpoint(path, "one").load() is None
    Checkpoint(path, "one").remove()
    assert list(tmp_path.iterdir()) == []
    assert Checkpoint(path, "one").load() is None


class Harm:
    """What unpickles into a call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / ".x.checkpoint"
    torch.save({"fingerprint": "f", "rows": Harm(str(tmp_path / "harmed"))}, path)
    assert Checkpoint(path, "f").load() is None
    assert not (tmp_path / "harmed").exists()


def test_a_fingerprint_knows_settings_pictures_and_weights(tmp_path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"one")
    weights = {"w": torch.zeros(3)}
    first = fingerprint("lr=1", [picture], weights)
    assert first == fingerprint("lr=1", [picture], {"w": torch.zeros(3)})
    assert first != fingerprint("lr=2", [picture], weights)
    assert first != fingerprint("lr=1", [picture], {"w": torch.ones(3)})
    picture.write_bytes(b"two")
    assert first != fingerprint("lr=1", [picture], weights)
