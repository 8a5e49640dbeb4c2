"""Fixtures of the server's tests."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MakeCertificate = Callable[..., tuple[str, str]]


@pytest.fixture(scope="session")
def make_certificate() -> MakeCertificate:
    """Return a function that makes a self-signed certificate of 127.0.0.1 and its key in a folder."""

    def make(folder: Path, *key: str) -> tuple[str, str]:
        files = (str(folder / "certificate.pem"), str(folder / "key.pem"))
        key = key or ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        command = [
            "openssl", "req", "-x509", "-newkey", *key, "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1],
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl, which makes the certificate, is not here")
        return files

    return make


@pytest.fixture(scope="session")
def certificate(
    tmp_path_factory: pytest.TempPathFactory, make_certificate: MakeCertificate
) -> tuple[str, str]:
    """Make a self-signed certificate of 127.0.0.1 and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
