"""The downloader over HTTPS: names are checked by their certificates."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from pawprint.sources.download import Downloader, DownloadParams, Failure
from tests.support.world import QUICK, Server, picture

OPTIONS = DownloadParams(**QUICK)


@pytest.fixture
def https(tmp_path: Path):
    """A server with a certificate of its own making for the name localhost."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*command.split(), "-keyout", "key", "-out", "cert"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with Server({"/x.jpg": picture(1)}) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
        server.base = server.base.replace("http://127.0.0.1", "https://localhost")
        yield server


def test_https_is_fetched_from_the_checked_address_under_the_name_of_the_certificate(
    https: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    with Downloader(OPTIONS, allow_private=True) as downloader:
        assert downloader.fetch(f"{https.base}/x.jpg", tmp_path / "x").status == "ok"
        assert (tmp_path / "x").read_bytes() == picture(1)
        with pytest.raises(Failure) as failure:
            downloader.fetch(
                https.base.replace("localhost", "127.0.0.1") + "/x.jpg", tmp_path / "y"
            )
    assert failure.value.result.status == "failed"


def test_a_certificate_of_nobody_is_not_believed(https: Server, tmp_path: Path):
    with (
        Downloader(OPTIONS, allow_private=True) as downloader,
        pytest.raises(Failure, match="no connection"),
    ):
        downloader.fetch(f"{https.base}/x.jpg", tmp_path / "x")
    assert not https.asked
