"""Writes small country databases in MaxMind's format, after its published specification."""

import ipaddress
from pathlib import Path
from typing import NamedTuple

_MARKER = b"\xab\xcd\xefMaxMind.com"
_STRING, _MAP, _UINT16, _UINT32, _ARRAY, _UINT64 = 2, 7, 5, 6, 11, 9


class Uint(NamedTuple):
    """Readers insist on the width of each number of the metadata."""

    value: int
    kind: int
    size: int


def uint16(value: int) -> Uint:
    return Uint(value, _UINT16, 2)


def write_country_database(path: Path, countries: dict[str, object], *, kind: str = "Test-Country") -> Path:
    """`countries`: IPv4 network → the whole record."""
    data, offsets = b"", {}
    for network, record in countries.items():
        offsets[network] = len(data)
        data += _encode(record)
    nodes: list[list[int | None]] = [[None, None]]
    leaves: dict[tuple[int, int], int] = {}
    for network in countries:
        _insert(nodes, leaves, network, offsets[network])
    tree = b"".join(_record(nodes, leaves, node, side) for node in range(len(nodes)) for side in (0, 1))
    path.write_bytes(tree + b"\x00" * 16 + data + _MARKER + _encode(_metadata(len(nodes), kind)))
    return path


def _insert(nodes: list[list[int | None]], leaves: dict[tuple[int, int], int], network: str, offset: int) -> None:
    parsed = ipaddress.IPv4Network(network)
    bits = f"{int(parsed.network_address):032b}"[: parsed.prefixlen]
    node = 0
    for bit in bits[:-1]:
        following = nodes[node][int(bit)]
        if following is None:
            following = len(nodes)
            nodes[node][int(bit)] = following
            nodes.append([None, None])
        node = following
    leaves[node, int(bits[-1])] = offset


def _record(nodes: list[list[int | None]], leaves: dict[tuple[int, int], int], node: int, side: int) -> bytes:
    if (node, side) in leaves:
        return (leaves[node, side] + len(nodes) + 16).to_bytes(3, "big")
    following = nodes[node][side]
    return (len(nodes) if following is None else following).to_bytes(3, "big")


def _metadata(node_count: int, kind: str) -> dict[str, object]:
    return {
        "node_count": Uint(node_count, _UINT32, 4),
        "record_size": uint16(24),
        "ip_version": uint16(4),
        "database_type": kind,
        "languages": [],
        "binary_format_major_version": uint16(2),
        "binary_format_minor_version": uint16(0),
        "build_epoch": Uint(1763650000, _UINT64, 8),
        "description": {},
    }


def _encode(value: object) -> bytes:
    if isinstance(value, str):
        return _control(_STRING, len(value.encode())) + value.encode()
    if isinstance(value, Uint):
        return _control(value.kind, value.size) + value.value.to_bytes(value.size, "big")
    if isinstance(value, dict):
        return _control(_MAP, len(value)) + b"".join(_encode(part) for pair in value.items() for part in pair)
    assert isinstance(value, list)
    return _control(_ARRAY, len(value)) + b"".join(_encode(item) for item in value)


def _control(kind: int, size: int) -> bytes:
    assert size < 29
    return bytes([kind << 5 | size]) if kind <= 7 else bytes([size, kind - 7])
