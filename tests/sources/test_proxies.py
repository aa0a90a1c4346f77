"""The proxies of the environment: used with their credentials, or refused in one line."""

import base64
import os
from pathlib import Path

import pytest

from pawprint.params import StageError
from pawprint.sources.download import Downloader, DownloadParams, Failure
from pawprint.sources.proxies import httpcore_proxy
from tests.support.world import QUICK, Handler, Server, World, picture

OPTIONS = DownloadParams(**QUICK)


def test_a_proxy_of_the_environment_is_used_but_not_for_private_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Server({"http://only-the-proxy-knows.invalid/x.jpg": picture(1)}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base)
        monkeypatch.setenv("no_proxy", "direct.invalid")
        with Downloader(OPTIONS, allow_private=False) as downloader:
            result = downloader.fetch("http://only-the-proxy-knows.invalid/x.jpg", tmp_path / "x")
            assert result.status == "ok"
            for url in (
                "http://127.0.0.1/x.jpg",
                "http://10.0.0.1/x.jpg",
                "http://localhost/x.jpg",
            ):
                with pytest.raises(Failure, match="not a public address"):
                    downloader.fetch(url, tmp_path / "y")
            with pytest.raises(Failure, match="does not resolve"):
                downloader.fetch("http://direct.invalid/x.jpg", tmp_path / "y")
    assert set(proxy.asked) == {"http://only-the-proxy-knows.invalid/x.jpg"}


class Guarded:
    """A proxy that wants credentials."""

    def __init__(self, user: str, password: str) -> None:
        self.expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def __call__(self, handler: Handler) -> None:
        known = handler.headers["Proxy-Authorization"] == self.expected
        handler.reply(200 if known else 407, picture(1) if known else b"who are you?")


@pytest.mark.parametrize(
    ("given", "user", "password"),
    [
        ("http://me:secret@", "me", "secret"),
        ("me:secret@", "me", "secret"),
        ("http://b%C3%A4r:p%40ss%3A%2F@", "bär", "p@ss:/"),
        ("http://me@", "me", ""),
    ],
)
def test_the_credentials_in_a_proxys_address_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, user: str, password: str
):
    url = "http://only-the-proxy-knows.invalid/x.jpg"
    with Server({url: Guarded(user, password)}) as proxy:
        monkeypatch.setenv("http_proxy", given + proxy.base.removeprefix("http://"))
        with Downloader(OPTIONS, allow_private=False) as downloader:
            assert downloader.fetch(url, tmp_path / "x").status == "ok"


def test_a_proxy_without_a_scheme_is_taken_for_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = "http://only-the-proxy-knows.invalid/x.jpg"
    with Server({url: picture(1)}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base.removeprefix("http://"))
        with Downloader(OPTIONS, allow_private=False) as downloader:
            assert downloader.fetch(url, tmp_path / "x").status == "ok"


ODD = {
    "socks5://me:secret@127.0.0.1:1080": "'127.0.0.1:1080'",
    "socks4://127.0.0.1:1080": "'socks4://127.0.0.1:1080'",
    "ftp://127.0.0.1": "'ftp://127.0.0.1'",
    "http://127.0.0.1:port": "'http://127.0.0.1:port'",
    "http://127.0.0.1:99999": "'http://127.0.0.1:99999'",
    "http://me:secret@": "''",
    "http://": "'http://'",
    "://": "'://'",
    "http://[::1": "'http://[::1'",
    "http://a b:1": "'http://a b:1'",
    "http://" + "ä" * 70: "'http://ää",
}


@pytest.mark.parametrize("given", ODD)
def test_an_odd_proxy_is_refused_without_showing_its_password(given: str):
    with pytest.raises(StageError) as caught:
        httpcore_proxy(given)
    assert f"the environment names the proxy {ODD[given]}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_odd_proxy_ends_the_stage_with_one_line(tmp_path: Path):
    world = World(tmp_path / "project")
    for label in ("cat", "dog"):
        world.write(f"data/own/{label}.txt", "http://a.example/1.jpg\n")
    world.use({"kind": "urls"})
    environment = {**os.environ, "http_proxy": "socks5://127.0.0.1:1080", "no_proxy": ""}
    process = world.start(env=environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "kinds of proxy that work: http, https" in errors.splitlines()[-1]


def test_an_address_of_ipv6_can_be_a_proxy():
    proxy = httpcore_proxy("http://[::1]:3128")
    assert (proxy.url.host, proxy.url.port) == (b"::1", 3128)
