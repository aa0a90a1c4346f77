"""torch without its compiler, which no stage uses and every stage would import.

`import timm` and the first optimizer both import torch._dynamo, only for decorators that keep the
compiler away from a function. That takes 1.3 s of every stage. `Decorators` stands in its place and
gives these decorators, which then have nothing to do. Whoever asks it for anything else, such as
`torch.compile` or torch's newer exporter, gets the real module, imported at that moment.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
UTILS = f"{COMPILER}.utils"  # torchvision asks it one question when it is imported


class Decorators(ModuleType):
    """Stands for torch._dynamo, or for its `utils`, until more of it is wanted."""

    def __init__(self, name: str, **has: Any) -> None:
        super().__init__(name)
        self.__dict__.update(has)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python's import asks every module
            raise AttributeError(name)
        import_compiler()
        return getattr(sys.modules[self.__name__], name)


class Finder:
    """Imports the real module for whoever imports another of its parts."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        """Return where a part of torch._dynamo comes from, if the decorators stood for it."""
        if not name.startswith(f"{COMPILER}.") or not import_compiler():
            return None
        return ModuleSpec(name, Found(importlib.import_module(name)))


class Found(Loader):
    """Loads a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return that module."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it has been executed."""


FINDER = Finder()


def leave_out_compiler() -> None:
    """Put the decorators in the place of torch._dynamo, unless it is imported already."""
    if COMPILER in sys.modules:
        return
    decorators = {"disable": as_it_is, "graph_break": lambda: None}
    sys.modules[COMPILER] = Decorators(COMPILER, __path__=[], **decorators)
    sys.modules[UTILS] = Decorators(UTILS, is_compile_supported=lambda device_type: False)
    sys.meta_path.insert(0, FINDER)


def import_compiler() -> bool:
    """Import the real torch._dynamo if the decorators stand for it; return whether they did."""
    if not isinstance(sys.modules.get(COMPILER), Decorators):
        return False
    for name in (COMPILER, UTILS):
        del sys.modules[name]
    sys.meta_path.remove(FINDER)
    importlib.import_module(COMPILER)
    return True


def as_it_is(function: Any = None, *options: Any, **more: Any) -> Any:
    """Return the function, or a decorator that does: `disable` where nothing is compiled."""
    return function if function is not None else as_it_is
