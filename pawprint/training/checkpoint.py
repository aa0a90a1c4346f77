"""A training's state on disk after each epoch, so that a killed training goes on from there.

The file is written whole or not at all, and read without running any code in it (torch's
`weights_only`). It names what the training depends on; the state of another training is ignored.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pawprint.tables import replacing
from pawprint.training.device import processes


class Checkpoint:
    """The state of one training in the file `path`; `fingerprint` names the training."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def save(self, **state: Any) -> None:
        """Replace what is stored by `state`: tensors, numbers, texts, lists and dicts of them."""
        with replacing(self.path) as file:
            try:
                torch.save({**state, "fingerprint": self.fingerprint}, file)
            except RuntimeError as error:  # of a full disk it says only where it stopped
                why = error.__context__
                raise (why if isinstance(why, OSError) else error) from None

    def load(self) -> dict[str, Any] | None:
        """Return what the same training saved last, on the CPU.

        None if there is nothing, or if the file is damaged or another training's.
        """
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # of a damaged file, torch raises many kinds
            return None
        same = isinstance(state, dict) and state.get("fingerprint") == self.fingerprint
        return state if same else None

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)


def resume(
    checkpoint: Checkpoint | None, model: nn.Module, generator: torch.Generator
) -> dict[str, Any] | None:
    """Restore the model and the generator from what a killed training left, in every process.

    Return all that was saved, for what the phase restores itself; None if there is nothing.
    """
    rank, world = processes()
    found = [checkpoint.load() if checkpoint and rank == 0 else None]
    if world > 1:
        dist.broadcast_object_list(found)
    saved = found[0]
    if saved:
        model.load_state_dict(saved["model"])
        generator.set_state(saved["generator"])
        if checkpoint and rank == 0:
            epochs = len(saved["rows"])
            print(f"train: going on after epoch {epochs} from {checkpoint.path}", file=sys.stderr)
    return saved


def fingerprint(settings: str, files: Iterable[Path | str], weights: Mapping[str, Tensor]) -> str:
    """Return a hash of settings, of the contents of files, and of the weights at the start.

    The code of this folder and the version of torch count too: other code gives other numbers.
    """
    digest = hashlib.sha256(f"{settings} {torch.__version__}".encode())
    for path in [*sorted(Path(__file__).parent.glob("*.py")), *files]:
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
