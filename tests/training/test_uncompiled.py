"""torch's compiler is imported by whoever wants it, and by no stage."""

import subprocess
import sys

import pytest

SEEN = "print(sum(name.startswith('torch._dynamo.') for name in sys.modules))"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_step_imports_no_compiler():
    found = run(
        f"""
import pawprint.training.model, stages.export
import timm, torch
from pawprint.training.device import ComputeParams, start
start(ComputeParams(device="cpu", threads=0), 0)
model = timm.create_model("test_efficientnet")
optimizer = torch.optim.AdamW(model.parameters())
model(torch.rand(2, 3, 64, 64)).sum().backward()
optimizer.step()
assert torch.are_deterministic_algorithms_enabled()
{SEEN}
"""
    )
    assert int(found) == 1  # the stand-in for its `utils`


@pytest.mark.parametrize(
    "wants",
    [
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).sum() == 4",
        "import torch._dynamo.testing; from torch._dynamo import config; config.cache_size_limit",
        "import torch._dynamo.utils as it; assert it is torch._dynamo.utils and it.counters == {}",
        "from torch._dynamo.utils import counters",
        "torch.export.export(torch.nn.Linear(3, 2), (torch.rand(1, 3),))",
    ],
)
def test_whoever_wants_the_compiler_gets_it(wants):
    found = run(f"import pawprint.training\nimport timm, torch\n{wants}\n{SEEN}")
    assert int(found) > 20


def test_a_compiler_that_is_there_already_stays():
    code = "import torch._dynamo as it\nimport pawprint.training, torch\n"
    run(f"{code}assert torch._dynamo is it and it.__file__")
