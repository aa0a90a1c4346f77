"""The map on this machine: results in order, and what an item costs that ends its process."""

import multiprocessing
import os
import threading

import pytest

from pawprint.compute import engine

BAD = {3, 40}


def double(item: int) -> int:
    """Return twice the item; a bad one ends the process, as a decoder in C may."""
    if item in BAD:
        os._exit(11)
    return 2 * item


def test_after_an_item_that_ends_its_process_all_cores_go_on(monkeypatch: pytest.MonkeyPatch):
    started = []
    pool, context = engine.ProcessPoolExecutor, multiprocessing.get_context("fork")

    def start(workers: int) -> object:
        started.append(workers)
        return pool(workers, mp_context=context)

    monkeypatch.setattr(engine, "ProcessPoolExecutor", start)
    monkeypatch.setattr(engine, "cores", lambda: 2)
    found = engine.Engine().map(double, range(60), pool="processes", chunk=4, crashed=lambda: -1)
    assert list(found) == [-1 if item in BAD else 2 * item for item in range(60)]
    assert started.count(2) == 1 + len(BAD)


def test_without_a_result_for_it_such_an_item_is_an_error():
    with pytest.raises(engine.BrokenProcessPool):
        list(engine.Engine().map(double, range(60), pool="processes"))


def test_no_items_start_no_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "ProcessPoolExecutor", None)
    assert list(engine.Engine().map(double, [], pool="processes")) == []


def test_spare_threads_work_beside_one_per_core(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "cores", lambda: 2)
    together = threading.Barrier(3)

    def meet(item: int) -> int:
        together.wait(timeout=60)
        return item

    assert list(engine.Engine().map(meet, range(6), pool="threads", spare=1)) == list(range(6))
