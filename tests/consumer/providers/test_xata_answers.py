"""The tables of Xata's answers and aiohttp's exceptions are complete, and say what happens next."""

from __future__ import annotations

from datetime import UTC, datetime

import aiohttp
import pytest

from consumer.providers.protocol import QuotaBlocked
from consumer.providers.xata.answers import (
    ANSWERS,
    AlreadyThereError,
    Answer,
    NotFoundError,
    ProjectFullError,
    UnclearError,
    error_of,
    retry_after_s,
    row_of,
    translate,
)
from shared.errors import DependencyDown, EffectError, NotYet, PermanentError, ThrottledError, TransientError


def _all_subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind} | {deeper for sub in kind.__subclasses__() for deeper in _all_subclasses(sub)}


_AIOHTTP = sorted(
    {
        found
        for name in dir(aiohttp)
        if isinstance(found := getattr(aiohttp, name), type) and issubclass(found, aiohttp.ClientError)
    }
    | _all_subclasses(aiohttp.ClientError),
    key=str,
)


def _raised(kind: type[Exception]) -> Exception:
    """One of that class, though their constructors differ; its text is a secret."""
    error = kind.__new__(kind)
    Exception.__init__(error, "xau_secret")
    return error


@pytest.mark.parametrize("kind", _AIOHTTP)
def test_every_exception_of_the_http_client_becomes_an_outage(kind: type[Exception]) -> None:
    ours = translate(_raised(kind))

    assert isinstance(ours, DependencyDown)
    assert "secret" not in str(ours)


@pytest.mark.parametrize(
    "kind",
    [
        aiohttp.ConnectionTimeoutError,
        aiohttp.ClientConnectorError,
        aiohttp.ClientConnectorDNSError,
        aiohttp.ClientConnectorCertificateError,
        aiohttp.ClientProxyConnectionError,
        aiohttp.ServerFingerprintMismatch,
        aiohttp.ClientHttpProxyError,
        aiohttp.InvalidURL,
        aiohttp.NonHttpUrlClientError,
    ],
)
def test_what_never_left_is_no_unclear_request(kind: type[Exception]) -> None:
    assert type(translate(_raised(kind))) is DependencyDown


@pytest.mark.parametrize(
    "kind",
    [
        aiohttp.SocketTimeoutError,
        aiohttp.ServerDisconnectedError,
        aiohttp.ClientConnectionResetError,
        aiohttp.ClientOSError,
        aiohttp.ClientPayloadError,
        aiohttp.ClientResponseError,
        aiohttp.TooManyRedirects,
        TimeoutError,
        ConnectionResetError,
    ],
)
def test_what_may_have_arrived_is_an_unclear_request(kind: type[Exception]) -> None:
    assert type(translate(_raised(kind))) is UnclearError


def test_a_bug_is_not_taken_for_an_outage() -> None:
    assert translate(KeyError("x")) is None


@pytest.mark.parametrize("status", [status for status in range(100, 600) if not 200 <= status < 300])
def test_every_status_becomes_one_of_our_errors_that_quotes_what_xata_says(status: int) -> None:
    error = error_of(Answer(status, "what Xata says"))

    assert isinstance(error, EffectError)
    assert "what Xata says" in str(error)


@pytest.mark.parametrize("status", [0, 199, 201, 299, 600, 999])
def test_a_status_that_nobody_expects_stops_the_consumer(status: int) -> None:
    assert type(error_of(Answer(status, ""))) is DependencyDown


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "project [prj_x] has too many branches", ProjectFullError),
        (400, "organization [o] has too many branches", QuotaBlocked),
        (400, "organization [o] has too many projects", QuotaBlocked),
        (429, "organization [o] has reached its limit of 10 branches per hour", QuotaBlocked),
        (400, "description a_b invalid: invalid branch description a_b", PermanentError),
        (400, "invalid project name []", PermanentError),
        (400, "", PermanentError),
        (400, "Branch [n]: invalid parameter [configuration]: invalid image: image x is not valid", DependencyDown),
        (400, "Branch [n]: invalid parameter [instanceType]: instance type x is not found", DependencyDown),
        (400, "Branch [n]: invalid parameter [configuration]: invalid region: region [x] not found", DependencyDown),
        (400, "BranchID [b]: a child branch would exceed the maximum depth of the branch tree (50)", DependencyDown),
        (400, "BranchID [b]: a child branch would exceed the maximum children allowed (100)", DependencyDown),
        (401, "no token found", DependencyDown),
        (401, "invalid token", DependencyDown),
        (401, "no access to organization [o]", DependencyDown),
        (402, "", DependencyDown),
        (403, "access denied", DependencyDown),
        (403, "Organization [o] is disabled, please check your billing settings or contact support", DependencyDown),
        (403, "Organization [o] has reached the branch limit for new organizations", QuotaBlocked),
        (403, "Branch [b] update is temporarily unavailable", TransientError),
        (404, "project [p] not found", NotFoundError),
        (404, "Branch [b]: not found", NotFoundError),
        (405, "", DependencyDown),
        (408, "", UnclearError),
        (409, "branch [n] already exists", AlreadyThereError),
        (409, "project [n] already exists", AlreadyThereError),
        (409, "branch [b] was modified concurrently, please retry", TransientError),
        (410, "", DependencyDown),
        (412, "Cannot create child branch because parent branch [p] is not healthy", NotYet),
        (422, "", PermanentError),
        (429, "", ThrottledError),
        (500, "Internal Error (Request ID: req_x)", UnclearError),
        (502, "", UnclearError),
        (503, "Service temporarily unavailable.", UnclearError),
        (504, "", UnclearError),
        (302, "", DependencyDown),
    ],
)
def test_each_row_of_the_facts(status: int, message: str, kind: type[EffectError]) -> None:
    assert type(error_of(Answer(status, message))) is kind


@pytest.mark.parametrize(("status", "ended"), [(500, True), (503, True), (502, False), (504, False), (408, False)])
def test_only_the_servers_own_word_ends_a_request(status: int, ended: bool) -> None:  # noqa: FBT001 - a table's column
    error = error_of(Answer(status, ""))

    assert isinstance(error, UnclearError)
    assert error.ended is ended


def test_each_row_of_the_table_can_be_reached() -> None:
    samples = [
        Answer(status, message)
        for status in (200, *range(400, 600))
        for message in (
            "",
            "organization [o] has too many branches",
            "project [p] has too many branches",
            "maximum depth",
            "invalid region",
            "invalid image",
            "instance type x is not found",
            "branch limit for new organizations",
            "is disabled",
            "temporarily unavailable",
            "already exists",
        )
    ]

    assert {id(row_of(sample)) for sample in samples} == {id(row) for row in ANSWERS}


@pytest.mark.parametrize(
    ("status", "message", "setting"),
    [
        (401, "invalid token", "XATA_API_KEY"),
        (403, "access denied", "XATA_API_KEY"),
        (403, "Organization [o] is disabled, please check your billing", "billing"),
        (400, "invalid image: x", "XATA_IMAGE"),
        (400, "instance type x is not found", "XATA_INSTANCE_TYPE"),
        (400, "invalid region: x", "XATA_REGIONS"),
        (404, "", ""),
        (405, "", "XATA_API_URL"),
    ],
)
def test_what_is_the_operators_to_put_right_is_named(status: int, message: str, setting: str) -> None:
    assert setting in str(error_of(Answer(status, message)))


@pytest.mark.parametrize(
    ("status", "message"),
    [(429, ""), (503, ""), (412, "not healthy"), (429, "organization per hour")],
)
def test_the_patience_that_xata_asks_for_is_kept(status: int, message: str) -> None:
    assert error_of(Answer(status, message, retry_after_s=77.0)).retry_after_s == 77.0  # type: ignore[attr-defined] # each of these has it


def test_a_long_text_of_xata_is_cut() -> None:
    assert len(str(error_of(Answer(500, "x" * 10_000)))) < 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("9" * 400, 3600.0),
        ("soon", None),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2036 11:00:00 GMT", 3600.0),
        ("Fri, 99 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now=datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)) == seconds
