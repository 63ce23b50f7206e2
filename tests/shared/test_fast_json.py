"""`parse` and `compact` against the standard library, which they must agree with."""

import json
from dataclasses import asdict, dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.fast_json import compact, parse

_WHOLE = st.integers(min_value=-(2**63), max_value=2**63 - 1)
_VALUES = st.recursive(
    st.none() | st.booleans() | _WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_VALUES)
def test_a_value_is_written_as_the_standard_library_writes_it_and_read_back(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert json.loads(compact(value)) == value


@given(st.text())
def test_texts_are_written_byte_for_byte_as_before(text: str) -> None:
    assert compact(text) == json.dumps(text, ensure_ascii=False).encode()


# Short: of numbers beyond 64 bits it is said that they differ.
@given(st.binary(max_size=18) | st.text(max_size=18).map(str.encode))
@example(b'"\\ud800"')
@example(b"[NaN]")
@example(b"-Infinity")
@example(b'{"a":1,"a":2}')
@example(b"\xef\xbb\xbf{}")
@example('"{}"'.encode("utf-16"))
@example(b"01")
@example(b"[1,]")
@example(b'"\x00"')
@example(b"-0")
@example(b"1e400")
def test_what_is_read_or_refused_is_what_the_standard_library_reads_or_refuses(text: bytes) -> None:
    try:
        expected = json.loads(text.decode())
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - which of its kinds does not matter to anybody
            parse(text)
    else:
        assert parse(text) == expected or repr(parse(text)) == repr(expected)


def test_what_is_nested_too_deep_is_refused_and_harms_nobody() -> None:
    with pytest.raises((RecursionError, ValueError)):
        parse(b"[" * 100_000 + b"]" * 100_000)


def test_dataclasses_are_objects_with_their_fields_in_order() -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        second: str
        first: int | None = None

    assert compact(Pair("b")) == json.dumps(asdict(Pair("b")), separators=(",", ":")).encode()


@pytest.mark.parametrize("value", ["\ud800", 2**64])
def test_what_utf_8_or_64_bits_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        compact(value)
