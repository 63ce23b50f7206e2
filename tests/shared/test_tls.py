"""What an AMQP address says about certificates is tried before anything connects."""

import ssl
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from ingress.amqp.address import Address
from shared import tls
from shared.errors import SettingsError
from shared.settings import BrokerSettings

# Nobody's: made for this test, signed by itself.
CERTIFICATE: Final = """\
MIIBejCCAR+gAwIBAgIULpwC/9bF7gaxppjU3/q8Df9CKh4wCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGYnJva2VyMCAXDTI2MTEyMTE0MDY0M1oYDzIxMjYxMDI4MTQw
NjQzWjARMQ8wDQYDVQQDDAZicm9rZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASp11ubSS86v7Y7SHGL7sdMDh4uJqB32Gi9R9L1yE+HFv1ojVbghBo9GqCWfoop
GfhdF6rBEBits57pYZu63qbRo1MwUTAdBgNVHQ4EFgQURtB2yQ6UeI9gRdRVA2tT
IkvbetswHwYDVR0jBBgwFoAURtB2yQ6UeI9gRdRVA2tTIkvbetswDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAqM+nbz/nfIZ6JVmP8hYJg3soOcq8
9XVY145WudSFrJACIQDOmlPAAzchopp/WqzYq0IoVRxdVnTtEa/derYZUyrr6Q==
"""
KEY: Final = """\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqtfxaz9ZKjbBG7gF
9M0cMqH0T2GQVicxRYiOocvsGjihRANCAASp11ubSS86v7Y7SHGL7sdMDh4uJqB3
2Gi9R9L1yE+HFv1ojVbghBo9GqCWfoopGfhdF6rBEBits57pYZu63qbR
"""
LOCKED_KEY: Final = """\
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,AE469635325B43F48FB123D3E8D3847E

xg3akuVmhlIpvNvxSG3Hp2NRza5ZLUKt2B0BXhrRmb7MaVMEghRlgt1MXahv74GP
U/axxtBsARdqVcsiBeSN/AyekS2hws9Rz9uy+ooDZOTsGTnmyZ8AzazVrIfulz4h
at6PeEtEefbR0MLLAvvALRKSiQOPOw3W0BQ2TpL60bM=
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A certificate, its key, the key under a passphrase, and a text that is none of these."""
    kinds = {
        "certificate": ("CERTIFICATE", CERTIFICATE),
        "key": ("PRIVATE KEY", KEY),
        "locked": ("EC PRIVATE KEY", LOCKED_KEY),
        "text": ("TEXT", "aGVsbG8=\n"),
    }
    for name, (kind, body) in kinds.items():
        (tmp_path / name).write_text(f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n")
    return {name: tmp_path / name for name in kinds}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("cadata=secret", "cadata is no certificate: write the base64"),
        ("cadata=c2VjcmV0", "cadata is no certificate: write the base64"),
        ("cadata=sécret", "cadata is no certificate: write the base64"),
        ("cafile=/nowhere/ca.pem", "cafile /nowhere/ca.pem cannot be read (No such file or directory)"),
        ("cafile={text}", "holds no certificate"),
        ("capath=/nowhere", "capath /nowhere is no folder"),
        ("certfile=/nowhere/cert.pem", "/nowhere/cert.pem cannot be read (No such file or directory)"),
        ("certfile={certificate}&keyfile=/nowhere/key.pem", "/nowhere/key.pem cannot be read"),
        ("certfile={certificate}", "do not go together"),
        ("certfile={certificate}&keyfile={locked}", "without a passphrase"),
        ("keyfile={key}", "name its certificate with certfile"),
        ("no_verify_ssl=false", "no_verify_ssl is neither 0 nor 1"),
    ],
)
def test_certificates_and_keys_that_cannot_be_used_are_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, Path], query: str, said: str
) -> None:
    monkeypatch.setenv("AMQP_URL", f"amqps://usher:password@localhost:5671/?{query.format_map(files)}")
    with pytest.raises(SettingsError, match=r"^AMQP_URL: ") as raised:
        BrokerSettings.read()
    assert said in str(raised.value)
    assert "password" not in str(raised.value)


def test_certificates_and_keys_that_can_be_used_are_taken(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]
) -> None:
    cadata = quote(b64encode(ssl.PEM_cert_to_DER_cert(files["certificate"].read_text())), safe="")
    query = "cafile={certificate}&certfile={certificate}&keyfile={key}".format_map(files)
    address = f"amqps://usher:password@localhost:5671/?{query}&cadata={cadata}"
    monkeypatch.setenv("AMQP_URL", address)

    assert BrokerSettings.read().amqp_addresses() == [address]
    assert len((Address.of(address, heartbeat_s=10, name="usher").ssl_context() or ssl.SSLContext()).get_ca_certs()) > 0


def test_the_certificate_is_shown_to_a_broker_that_asks_for_it(files: dict[str, Path]) -> None:
    broker = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["certificate"])
    broker.load_cert_chain(files["certificate"], files["key"])
    broker.verify_mode = ssl.CERT_REQUIRED
    query = {"certfile": str(files["certificate"]), "keyfile": str(files["key"]), "no_verify_ssl": "1"}

    shown = _shown(tls.context(query), broker)

    assert shown == ssl.PEM_cert_to_DER_cert(files["certificate"].read_text())


def _shown(client: ssl.SSLContext, broker: ssl.SSLContext) -> bytes | None:
    """The client's certificate, as the broker sees it when they have greeted each other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(back, there), broker.wrap_bio(there, back, server_side=True)
    for each in (near, far) * 3:
        with suppress(ssl.SSLWantReadError):
            each.do_handshake()
    return far.getpeercert(binary_form=True)


def test_cadata_is_looked_at_without_tls_too_and_files_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://localhost/?cafile=/nowhere/ca.pem")
    BrokerSettings.read()
    monkeypatch.setenv("AMQP_URL", "amqp://localhost/?cadata=secret")
    with pytest.raises(SettingsError, match="cadata is no certificate"):
        BrokerSettings.read()
