"""A training's state on disk after each epoch, so that a killed training goes on where it stood.

The file is written whole or not at all, and read without running any code in it (torch's `weights_only`). It names what
the training depends on; the state of another training is not taken up.
"""

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pawprint.tables import write_bytes


class Checkpoint:
    """The state of one training in the file `path`; `fingerprint` names the training."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def save(self, **state: Any) -> None:
        """Replace what is stored by `state`: tensors, numbers, texts, and lists and dicts of them."""
        content = io.BytesIO()  # of a full disk, torch would say something unclear
        torch.save({**state, "fingerprint": self.fingerprint}, content)
        write_bytes(self.path, content.getvalue())

    def load(self) -> dict[str, Any] | None:
        """What was saved last by the same training, on the CPU; None where there is nothing or it is another's."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return (
            state
            if isinstance(state, dict) and state.get("fingerprint") == self.fingerprint
            else None
        )

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def fingerprint(settings: str, files: Iterable[Path | str], weights: Mapping[str, Tensor]) -> str:
    """A hash of settings, of the contents of files, and of the weights that a training starts from.

    The code of this folder and the version of torch count too: other code would go on to other numbers.
    """
    digest = hashlib.sha256(f"{settings} {torch.__version__}".encode())
    for path in [*sorted(Path(__file__).parent.glob("*.py")), *files]:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
