"""How long torch's threads wait is set before torch is imported, and the user's word counts."""

import os
import subprocess
import sys

import pytest

from pawprint import OWN_SETTINGS, SPINS
from tests.support.project import ROOT

SEEN = """
import os, sys
class Seen:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print({key: os.environ[key] for key in sorted(os.environ) if key in %r})
            os._exit(sys.stdout.flush() or 0)
sys.meta_path.insert(0, Seen())
import %s
"""


@pytest.mark.parametrize(
    ("module", "own"),
    [
        ("stages.train", {}),
        ("stages.export", {}),
        ("pawprint.commands.compare.probe", {}),
        ("stages.train", {"OMP_WAIT_POLICY": "active"}),
        ("stages.train", {"GOMP_SPINCOUNT": "5"}),
        ("stages.train", {"KMP_BLOCKTIME": "200"}),
    ],
)
def test_the_spin_is_set_before_torch_is_imported_unless_the_user_did(module, own):
    others = {key: value for key, value in os.environ.items() if key not in OWN_SETTINGS}
    command = [sys.executable, "-c", SEEN % (OWN_SETTINGS, module)]
    done = subprocess.run(command, cwd=ROOT, env=others | own, capture_output=True, text=True)
    expected = own or {"GOMP_SPINCOUNT": str(SPINS), "KMP_BLOCKTIME": "1"}
    assert done.stdout.strip() == str(dict(sorted(expected.items()))), done.stderr
