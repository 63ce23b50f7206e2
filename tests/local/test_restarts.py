"""When a part that died is started again."""

from local.restarts import DELAYS_S, STEADY_S, Row


def test_the_delay_grows_with_every_death_up_to_the_longest_and_goes_on_there() -> None:
    row = Row()

    delays = [row.add(lived_s=1.0) for _ in range(len(DELAYS_S) + 2)]

    assert delays == [*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]]
    assert list(DELAYS_S) == sorted(DELAYS_S)
    assert row.total == len(delays)


def test_only_the_death_that_reaches_the_longest_delay_is_told_at_length() -> None:
    row = Row()
    told = []
    for _ in range(len(DELAYS_S) + 2):
        row.add(lived_s=0.0)
        told.append(row.just_hopeless)

    assert told.index(True) == len(DELAYS_S) - 1
    assert told.count(True) == 1


def test_a_death_after_a_steady_life_is_a_first_one() -> None:
    row = Row()
    for _ in DELAYS_S:
        row.add(lived_s=0.0)

    delay = row.add(lived_s=STEADY_S)

    assert delay == DELAYS_S[0]
    assert row.total == len(DELAYS_S) + 1
