"""Lessons run in this process: what they set in torch is put back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.support.lessons import Lesson


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def lesson(tmp_path: Path) -> Callable[[str], Lesson]:
    """Make a small copy of a lesson by its name."""
    return lambda name: Lesson(tmp_path, name)
