"""Connections go to public addresses only, to those that were checked, at each redirect."""

from functools import partial
from pathlib import Path

import httpcore
import pytest

from pawprint.sources import network
from pawprint.sources.download import Downloader, DownloadParams, Failure
from tests.support.world import QUICK, Server, picture, redirect, reset

PRIVATE = """
127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1
255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fec0::1 ff02::1 ::ffff:127.0.0.1
::ffff:10.0.0.1 ::127.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1
64:ff9b::a00:1 64:ff9b:1::1 2001:db8::1
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses_are_known_in_every_wrapping(address: str):
    assert not network.is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str):
    assert network.is_public(address)


def test_private_addresses_are_not_asked_unless_allowed(tmp_path: Path):
    with (
        Server({"/x.jpg": picture(1)}) as server,
        Downloader(DownloadParams(), allow_private=False) as downloader,
    ):
        for base in (
            server.base,
            server.base.replace("127.0.0.1", "localhost"),
            server.base.replace("127.0.0.1", "2130706433"),
        ):
            with pytest.raises(Failure, match="not a public address") as failure:
                downloader.fetch(f"{base}/x.jpg", tmp_path / "x")
            assert failure.value.result.status == "refused"
    assert not server.asked
    assert not (tmp_path / "x").exists()


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the resolver give these addresses, one list a question; the names asked for."""
    asked: list[str] = []
    left = list(answers)

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list:
        asked.append(host)
        return [
            (2, 1, 6, "", (address, port))
            for address in (left.pop(0) if len(left) > 1 else left[0])
        ]

    monkeypatch.setattr(network.socket, "getaddrinfo", getaddrinfo)
    return asked


def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Catch every connection before it leaves; the addresses it went to."""
    went: list[str] = []

    def connect_tcp(self: object, host: str, *_: object) -> None:
        went.append(host)
        raise httpcore.ConnectError("caught")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return went


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    answer_with(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    went = connections(monkeypatch)
    with (
        Downloader(DownloadParams(), False) as downloader,
        pytest.raises(Failure, match=r"10\.0\.0\.1"),
    ):
        downloader.fetch("http://mixed.example/x.jpg", tmp_path / "x")
    assert went == []


def test_the_address_that_was_checked_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A name that changes its address after the check (DNS rebinding) is resolved only once."""
    asked = answer_with(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    went = connections(monkeypatch)
    with (
        Downloader(DownloadParams(), False) as downloader,
        pytest.raises(Failure, match="no connection"),
    ):
        downloader.fetch("http://rebound.example/x.jpg", tmp_path / "x")
    assert (asked, went) == (["rebound.example"], ["93.184.216.34"])


def test_a_host_that_never_takes_a_connection_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Its addresses end as they would have ended; another host's are asked as ever."""
    went: list[int] = []
    real = httpcore.SyncBackend.connect_tcp

    def connect_tcp(
        self: httpcore.SyncBackend, host: str, port: int, *more: object
    ) -> httpcore.NetworkStream:
        went.append(port)
        if port == 81:
            raise httpcore.ConnectTimeout
        return real(self, host, port, *more)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    dead = [f"http://127.0.0.1:81/{i}.jpg" for i in range(60)]
    ended = {}
    with Server({f"/{i}.jpg": reset for i in range(30)} | {"/fine.jpg": picture(1)}) as server:
        alive = [f"{server.base}/{i}.jpg" for i in range(30)] + [f"{server.base}/fine.jpg"]
        files = {url: tmp_path / str(i) for i, url in enumerate(dead + alive)}
        with Downloader(DownloadParams(**QUICK), allow_private=True) as downloader:
            downloader.fetch_all(files, ended.__setitem__)
    assert {ended[url].reason for url in dead} == {"no connection within 1 s"}
    assert network.HOPELESS <= went.count(81) < network.HOPELESS + QUICK["threads"]
    assert [ended[url].status for url in alive] == ["failed"] * 30 + ["ok"]
    assert {server.asked[f"/{i}.jpg"] for i in range(30)} == {QUICK["retries"] + 1}


def test_a_host_that_once_took_a_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    backend = network.CheckedNetwork(True, network.Deadline())
    with Server({}) as server:
        address = server.http.server_address
        backend.connect_tcp(*address, timeout=1).close()
        went = connections(monkeypatch)
        for _ in range(2 * network.HOPELESS):
            with pytest.raises(httpcore.ConnectError):
                backend.connect_tcp(*address, timeout=1)
    assert len(went) == 2 * network.HOPELESS


def test_a_redirect_into_the_private_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The first hop is let through, as if 127.0.0.1 were public; the second must be checked."""
    with Server({"/x.jpg": partial(redirect, to="http://10.1.2.3/secret")}) as server:
        public = network.is_public
        monkeypatch.setattr(network, "is_public", lambda ip: ip == "127.0.0.1" or public(ip))
        with (
            Downloader(DownloadParams(), False) as downloader,
            pytest.raises(Failure, match=r"10\.1\.2\.3 is"),
        ):
            downloader.fetch(f"{server.base}/x.jpg", tmp_path / "x")
