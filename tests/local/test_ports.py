"""Free ports: from the range that is asked for, and a range that is none is said so."""

import pytest

from local.errors import ServerError
from local.ports import free_port


def test_free_ports_come_from_the_named_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USHER_FREE_PORTS", "29000-30000")
    assert all(29_000 <= free_port() <= 30_000 for _ in range(50))


def test_a_port_is_not_handed_out_again_before_its_server_can_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USHER_FREE_PORTS", "29000-30000")
    ports = [free_port() for _ in range(400)]
    assert len(set(ports)) == 400


@pytest.mark.parametrize("named", ["", "20000", "ports", "30000-20000", "20000-20010", "0-5000", "65000-70000"])
def test_a_range_that_is_none_is_said_so(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("USHER_FREE_PORTS", named)
    with pytest.raises(ServerError, match="USHER_FREE_PORTS"):
        free_port()
