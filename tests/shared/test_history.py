import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.history import MAX_FAILURES, MAX_HISTORY_CHARS, Failure, failures, noted

AT = "2026-11-20T12:00:00.000Z"
_FAILURES = st.builds(
    Failure,
    at=st.just(AT),
    attempt=st.integers(1, 8),
    reason=st.sampled_from(["transient", "not_yet"]),
    error=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
)


def after(*happened: Failure) -> tuple[Failure, ...]:
    header = None
    for failure in happened:
        header = noted(header, failure)
    return failures(header)


def test_failures_are_told_in_their_order() -> None:
    first, second = Failure(AT, 1, "transient", "TransientError: busy"), Failure(AT, 2, "bug", "KeyError")

    assert after(first, second) == (first, second)


def test_waits_in_a_row_are_one_entry_with_the_latest_time() -> None:
    (told,) = after(*(Failure(f"2026-11-2{day}T12:00:00.000Z", 1, "not_yet", "NotYet: held") for day in range(5)))

    assert (told.at, told.times) == ("2026-11-24T12:00:00.000Z", 5)


def test_of_many_the_first_and_the_latest_are_kept() -> None:
    told = after(*(Failure(AT, number, "transient", "x") for number in range(1, 101)))

    assert len(told) == MAX_FAILURES
    assert [told[0].attempt, told[1].attempt, told[-1].attempt] == [1, 90, 100]


@given(st.lists(_FAILURES, max_size=30))
def test_it_never_outgrows_its_header(happened: list[Failure]) -> None:
    header = None
    for failure in happened:
        header = noted(header, failure)
        assert len(header) <= MAX_HISTORY_CHARS
        assert failures(header)[-1].attempt == failure.attempt


@pytest.mark.parametrize("text", ["x" * (MAX_HISTORY_CHARS - 50), "\\ud800"])
def test_what_somebody_else_wrote_into_it_can_be_carried_on(text: str) -> None:
    header = noted(f'[["{AT}",1,"{text}","",1]]', Failure(AT, 2, "bug", "KeyError"))

    assert len(header.encode()) <= MAX_HISTORY_CHARS
    assert failures(header)[-1] == Failure(AT, 2, "bug", "KeyError")


@given(
    st.none() | st.integers() | st.text() | st.binary() | st.sampled_from(["[1]", "[[]]", "{}", '[["",1,"","","x"]]'])
)
def test_what_is_no_history_is_an_empty_one(header: object) -> None:
    assert failures(header) == ()
