"""A client address in, its country out; the address goes no further.

Offline in both forms: the registries' own lists (iptocc), or a MaxMind-format file. A lookup never raises.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import iptocc
import maxminddb

from shared.errors import SettingsError

CountryOf = Callable[[str], str | None]

_ISO_CODE: Final = re.compile(r"[A-Z]{2}")
_LONGEST_ADDRESS: Final = len("0000:0000:0000:0000:0000:ffff:255.255.255.255")


def country_lookup(database: Path | None) -> CountryOf:
    """The lookup in `database`, a .mmdb file, or offline in the registries' lists when there is none.

    Raises:
        SettingsError: the file is not there or is not a country database.
    """
    return _registries_lookup() if database is None else _file_lookup(database)


def _registries_lookup() -> CountryOf:
    def country_of(address: str) -> str | None:
        public = _public(address)
        return None if public is None else _code(iptocc.country_code(public))

    return country_of


def _file_lookup(path: Path) -> CountryOf:
    try:
        reader = maxminddb.open_database(path)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise SettingsError(f"COUNTRY_DATABASE: {path} is not a readable .mmdb file: {type(error).__name__}") from error
    if (
        "country" not in reader.metadata().database_type.lower()
        and "city" not in reader.metadata().database_type.lower()
    ):
        raise SettingsError(f"COUNTRY_DATABASE: {path} holds {reader.metadata().database_type}, not countries")

    def country_of(address: str) -> str | None:
        public = _public(address)
        if public is None:
            return None
        try:
            record = reader.get(public)
        except (ValueError, maxminddb.InvalidDatabaseError):
            # ValueError: an IPv6 address in a file that holds only IPv4.
            return None
        country = record.get("country") if isinstance(record, dict) else None
        return _code(country.get("iso_code") if isinstance(country, dict) else None)

    return country_of


def _public(address: str) -> str | None:
    """The address in its plain form; None for lists, private ranges, and whatever is no address."""
    if len(address) > _LONGEST_ADDRESS:
        return None
    try:
        parsed = ipaddress.ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return None
        parsed = parsed.ipv4_mapped or parsed
    return str(parsed) if parsed.is_global else None


def _code(country: object) -> str | None:
    return country if isinstance(country, str) and _ISO_CODE.fullmatch(country) else None
