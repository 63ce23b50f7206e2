import re

from hypothesis import given
from hypothesis import strategies as st

from consumer.providers.names import MAX_NAME_BYTES, database_name

_CLERK_IDS = st.from_regex(r"user_[0-9A-Za-z]{1,60}", fullmatch=True)
_IDS = st.one_of(_CLERK_IDS, st.text(min_size=1, max_size=300), st.sampled_from(["postgres", "template1", "usher"]))


def test_a_clerk_id_names_its_database_as_it_is() -> None:
    assert database_name("user_29w83sxmDNGwOuEthce5gg56FcC") == "user_29w83sxmDNGwOuEthce5gg56FcC"


def test_any_other_id_becomes_a_hash_that_stays_the_same() -> None:
    assert database_name("crm/7") == "usr_975109090333c6d4ebecb670b5a5a46bbf59bc289d43bad3"


@given(_IDS)
def test_every_name_is_legal_everywhere(user_id: str) -> None:
    name = database_name(user_id)

    assert re.fullmatch(r"us(er|r)_[0-9A-Za-z]+", name)
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert database_name(user_id) == name


@given(_IDS, _IDS)
def test_two_users_never_share_a_name(one: str, other: str) -> None:
    assert (database_name(one) == database_name(other)) == (one == other)


@given(_IDS)
def test_the_hash_form_of_one_user_is_never_the_natural_name_of_another(user_id: str) -> None:
    name = database_name(user_id)

    assert name == user_id or database_name(name) != name
