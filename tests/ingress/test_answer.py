"""The answer that all stored webhooks of a second share; how answers look on the wire is in test_front.py."""

from email.utils import parsedate_to_datetime

import pytest

from ingress.answer import PUBLISHED, as_bytes


def test_the_date_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = []
    for now in (1_800_000_000.9, 1_800_000_001.0, 1_799_999_999.5):
        monkeypatch.setattr("time.time", lambda now=now: now)
        lines = as_bytes(PUBLISHED).decode().splitlines()
        date = next(line.removeprefix("Date: ") for line in lines if line.startswith("Date: "))
        dates.append(parsedate_to_datetime(date).timestamp())

    assert dates == [1_800_000_000, 1_800_000_001, 1_799_999_999]
