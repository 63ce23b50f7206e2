"""What follows from an error: every branch of `decide`, and its bounds."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import outcome
from consumer.outcome import BACKOFF_S, DEFAULT_MAX_ATTEMPTS, Ack, DeadLetter, Retry, decide, describe
from shared.errors import (
    ConsumerCrashed,
    DecodeError,
    DependencyDown,
    NotYet,
    PermanentError,
    ThrottledError,
    TransientError,
)
from shared.topology import RETRY_DELAYS_S


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(outcome).failed == 0
    assert doctest.testmod(outcome).attempted > 0


def test_the_backoff_uses_only_delays_of_the_ladder_and_takes_about_three_hours() -> None:
    assert set(BACKOFF_S) <= set(RETRY_DELAYS_S)
    assert DEFAULT_MAX_ATTEMPTS == 8
    assert 2.5 * 3600 < sum(BACKOFF_S) < 3.5 * 3600


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TransientError("a lock"), "transient"),
        (ThrottledError("slow down", 1), "throttled"),
        (ConsumerCrashed("again"), "crashed_consumer"),
        (ValueError("a bug"), "bug"),
    ],
)
def test_a_failed_attempt_is_counted_and_tried_again(error: Exception, reason: str) -> None:
    assert decide(error, 2) == Retry(30, 3, reason, describe(error))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TransientError("a lock"), "attempts_exhausted"),
        (ThrottledError("slow down", 1), "attempts_exhausted"),
        (ConsumerCrashed("again"), "crashed_consumer"),
        (ValueError("a bug"), "attempts_exhausted"),
    ],
)
def test_the_last_attempt_ends_in_the_dead_letter_queue(error: Exception, reason: str) -> None:
    assert decide(error, 8) == DeadLetter(reason, describe(error))


@pytest.mark.parametrize(("error", "reason"), [(PermanentError("no"), "permanent"), (DecodeError("no"), "undecodable")])
def test_what_can_never_succeed_is_dead_lettered_at_once(error: Exception, reason: str) -> None:
    assert decide(error, 1) == DeadLetter(reason, describe(error))


@pytest.mark.parametrize("attempt", [1, 8, 1000])
def test_an_outage_is_never_an_attempt(attempt: int) -> None:
    decided = decide(DependencyDown("gone"), attempt)
    assert isinstance(decided, Retry)
    assert decided.attempt == attempt


@pytest.mark.parametrize(
    ("wait_s", "delay_s"),
    [(0, 5), (4, 5), (29, 5), (30, 30), (7 * 86400, 7200), (1801, 1800)],
)
def test_waiting_looks_again_no_later_than_asked_and_is_no_attempt(wait_s: float, delay_s: int) -> None:
    decided = decide(NotYet("creating", wait_s), 8)
    assert decided == Retry(delay_s, 8, "not_yet", "NotYet: creating")


@pytest.mark.parametrize(("asked_s", "delay_s"), [(0, 5), (6, 30), (31, 300), (99999, 7200)])
def test_who_asks_for_patience_is_not_asked_again_before(asked_s: float, delay_s: int) -> None:
    decided = decide(ThrottledError("slow down", asked_s), 1)
    assert isinstance(decided, Retry)
    assert decided.delay_s == delay_s


def test_a_bugs_text_stays_out_of_headers_because_it_may_quote_the_event() -> None:
    assert describe(ValueError("ada@example.org")) == "ValueError"
    assert describe(PermanentError("a safe sentence")) == "PermanentError: a safe sentence"


_ERRORS = st.sampled_from([None, TransientError("x"), ThrottledError("x", 7), ConsumerCrashed("x"), KeyError("x")])


@given(st.lists(_ERRORS, min_size=1), st.integers(1, 20))
def test_attempts_are_bounded_whatever_happens(errors: list[Exception | None], limit: int) -> None:
    attempt = 1
    for error in errors:
        decided = decide(error, attempt, max_attempts=limit)
        match decided:
            case Ack() | DeadLetter():
                return
            case Retry():
                assert decided.delay_s in RETRY_DELAYS_S
                attempt = decided.attempt
                assert attempt <= limit
