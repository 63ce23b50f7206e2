"""Direct mode: the Svix signature, and everything that is not one."""

import base64
from datetime import UTC, datetime

import pytest
import svix
from hypothesis import example, given
from hypothesis import strategies as st

from ingress.verify import Keys, verify
from ingress.webhook import Mode, RawWebhook
from shared.errors import SignatureError, SignatureProblem
from tests.ingress.signing import OTHER_SVIX_SECRET, SVIX_SECRET, Headers, svix_headers, svix_signature

NOW = datetime(2025, 11, 20, 12, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
BODY = b'{"data":{"id":"user_2x","object":"user"},"object":"event","type":"user.created"}'
KEYS = Keys.of(svix_secrets=[SVIX_SECRET], hookdeck_secrets=[], relay_prefix="x-hookdeck")


def problem_of(headers: Headers, body: bytes = BODY, keys: Keys = KEYS) -> SignatureProblem:
    with pytest.raises(SignatureError) as caught:
        verify(RawWebhook(headers, body), keys, NOW)
    return caught.value.problem


def with_header(headers: Headers, name: str, value: str) -> Headers:
    return [(header, value if header == name else old) for header, old in headers]


def signed(**options: object) -> Headers:
    return svix_headers(BODY, **{"timestamp": NOW_S, **options})  # type: ignore[arg-type] # keywords pass through


def test_the_published_vector_is_accepted() -> None:
    signature = "v1,xR7cOdAhTCE96KPtJPI/NCQNGanVEydCaFqdsxGFBM4="
    headers = [
        ("svix-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
        ("svix-timestamp", "1674087231"),
        ("svix-signature", signature),
    ]

    verified = verify(RawWebhook(headers, BODY), KEYS, datetime.fromtimestamp(1674087231 + 10, tz=UTC))

    assert verified.id == "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    assert verified.mode is Mode.SVIX
    assert verified.sent_at == datetime.fromtimestamp(1674087231, tz=UTC)
    assert verified.body == BODY


def test_the_white_label_header_set_is_accepted() -> None:
    assert verify(RawWebhook(signed(names="webhook"), BODY), KEYS, NOW).id == "msg_1"


def test_header_names_are_compared_without_regard_to_case() -> None:
    headers = [(name.upper(), value) for name, value in signed()]
    assert verify(RawWebhook(headers, BODY), KEYS, NOW).id == "msg_1"


@pytest.mark.parametrize("order", [(SVIX_SECRET, OTHER_SVIX_SECRET), (OTHER_SVIX_SECRET, SVIX_SECRET)])
def test_while_secrets_rotate_either_signature_proves(order: tuple[str, str]) -> None:
    assert verify(RawWebhook(signed(secrets=order), BODY), KEYS, NOW).id == "msg_1"


def test_any_of_several_secrets_proves() -> None:
    keys = Keys.of(svix_secrets=[OTHER_SVIX_SECRET, SVIX_SECRET], hookdeck_secrets=[], relay_prefix="x-hookdeck")
    assert verify(RawWebhook(signed(), BODY), keys, NOW).id == "msg_1"


def test_an_asymmetric_signature_beside_the_right_one_is_passed_over() -> None:
    headers = signed()
    with_v1a = with_header(headers, "svix-signature", f"v1a,anything== {headers[2][1]}")
    assert verify(RawWebhook(with_v1a, BODY), KEYS, NOW).id == "msg_1"


def test_a_signature_of_another_secret_is_forged() -> None:
    assert problem_of(signed(secrets=[OTHER_SVIX_SECRET])) == "forged"


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
def test_each_header_is_needed(name: str) -> None:
    assert problem_of([header for header in signed() if header[0] != name]) == "missing"


def test_no_signature_at_all_is_missing() -> None:
    assert problem_of([]) == "missing"


def test_two_header_sets_at_once_are_malformed() -> None:
    assert problem_of(signed() + signed(names="webhook")) == "malformed"


def test_a_set_is_not_completed_from_the_other_one() -> None:
    mixed = [signed()[0], *signed(names="webhook")[1:]]
    assert problem_of(mixed) == "malformed"


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
def test_a_header_that_comes_twice_is_malformed(name: str) -> None:
    headers = signed()
    twice = [*headers, next(header for header in headers if header[0] == name)]
    assert problem_of(twice) == "malformed"


@pytest.mark.parametrize("age_s", [-300, 0, 300])
def test_up_to_five_minutes_either_way_are_tolerated(age_s: int) -> None:
    assert verify(RawWebhook(signed(timestamp=NOW_S - age_s), BODY), KEYS, NOW).id == "msg_1"


@pytest.mark.parametrize(("age_s", "problem"), [(301, "stale"), (-301, "future")])
def test_beyond_five_minutes_it_is_refused(age_s: int, problem: str) -> None:
    assert problem_of(signed(timestamp=NOW_S - age_s)) == problem


def test_a_stale_forgery_looks_like_any_stale_webhook() -> None:
    assert problem_of(signed(timestamp=NOW_S - 301, secrets=[OTHER_SVIX_SECRET])) == "stale"


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "x",
        "nan",
        "inf",
        "0",
        "1.7e9",
        f"{NOW_S}.0",
        f"+{NOW_S}",
        f"-{NOW_S}",
        f" {NOW_S}",
        f"{NOW_S}\n",
        f"0{NOW_S}",
    ],
)
def test_a_timestamp_has_one_spelling(timestamp: str) -> None:
    headers = with_header(signed(), "svix-timestamp", timestamp)
    resigned = with_header(headers, "svix-signature", svix_signature(SVIX_SECRET, "msg_1", timestamp, BODY))
    assert problem_of(resigned) == "malformed"


@pytest.mark.parametrize("timestamp", ["1" * 13, "253402300800", "\u0660\u0661\u0662"])
def test_a_timestamp_is_a_year_that_there_is(timestamp: str) -> None:
    assert problem_of(with_header(signed(), "svix-timestamp", timestamp)) == "malformed"


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\x00", "a\n", "ä", "\udcff", "x" * 256])
def test_an_id_is_short_visible_ascii_without_a_full_stop(message_id: str) -> None:
    assert problem_of(with_header(signed(), "svix-id", message_id)) == "malformed"


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "garbage",
        "v1,a,b",
        "v1,a",
        "v1,",
        "v1, ",
        ",",
        " ",
        "v1",
        "v1,!!!!",
        "v1," + "A" * 44,
        "\udcff",
        "v2,AAAA",
        "v1a,AAAA",
        "v1,c2hvcnQ=",
        "v1 " * 2000,
    ],
)
def test_what_is_no_list_of_v1_signatures_is_malformed(signature: str) -> None:
    assert problem_of(with_header(signed(), "svix-signature", signature)) == "malformed"


def test_one_malformed_entry_spoils_the_list() -> None:
    right = signed()[2][1]
    assert problem_of(with_header(signed(), "svix-signature", f"v1,a {right}")) == "malformed"


def test_spare_bits_of_base64_must_be_zero() -> None:
    right = signed()[2][1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    next_digit = alphabet[alphabet.index(right[-2]) + 1]
    assert base64.b64decode(right[3:-2] + next_digit + "=") == base64.b64decode(right[3:])

    assert problem_of(with_header(signed(), "svix-signature", right[:-2] + next_digit + "=")) == "malformed"


def test_a_body_that_is_no_utf_8_is_forged() -> None:
    assert problem_of(svix_headers(b"\xff", timestamp=NOW_S), b"\xff") == "forged"


def test_with_only_a_relay_secret_a_direct_webhook_lacks_its_signature() -> None:
    keys = Keys.of(svix_secrets=[], hookdeck_secrets=["s"], relay_prefix="x-hookdeck")
    assert problem_of(signed(), keys=keys) == "missing"


def test_the_error_carries_nothing_of_what_the_stranger_sent() -> None:
    headers = with_header(signed(), "svix-signature", "v1,marker-of-the-stranger")
    with pytest.raises(SignatureError) as caught:
        verify(RawWebhook(headers, b"marker"), KEYS, NOW)

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "marker" not in str(caught.value)


def test_keys_do_not_show_themselves() -> None:
    keys = Keys.of(svix_secrets=[SVIX_SECRET], hookdeck_secrets=["hush"], relay_prefix="x-hookdeck")
    assert "hush" not in repr(keys)
    assert "Webhook" not in repr(keys)


# What a stranger may try: the right names with values near the right ones, and plain noise.
_near = st.sampled_from(
    [value for _, value in svix_headers(BODY, timestamp=NOW_S)]
    + [str(NOW_S + 1), "v1,", "v1,AAAA", "v1a,x", "", "nan", "msg_2", "msg_1.x", "false", "true", "\x00", "\udc80"],
)
_names = st.sampled_from(
    [f"{name}-{kind}" for name in ("svix", "webhook") for kind in ("id", "timestamp", "signature")]
    + [f"x-hookdeck-{kind}" for kind in ("signature", "signature-2", "eventid", "verified")],
)
_headers = st.lists(st.tuples(_names, _near | st.text(max_size=60)), max_size=8)
_both = Keys.of(svix_secrets=[SVIX_SECRET], hookdeck_secrets=["hookdeck_test_secret"], relay_prefix="x-hookdeck")
_relay_only = Keys.of(svix_secrets=[], hookdeck_secrets=["hookdeck_test_secret"], relay_prefix="x-hookdeck")


@given(headers=_headers, body=st.binary(max_size=50), keys=st.sampled_from([KEYS, _both, _relay_only]))
def test_noise_is_always_refused_and_never_raises_anything_else(headers: Headers, body: bytes, keys: Keys) -> None:
    assert problem_of(headers, body, keys) in SignatureProblem


@given(st.integers(0, 8 * (len(BODY)) - 1))
def test_one_changed_bit_in_the_body_is_refused(bit: int) -> None:
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << (bit % 8)
    assert problem_of(signed(), bytes(changed)) == "forged"


@given(
    which=st.sampled_from(["svix-id", "svix-timestamp", "svix-signature"]),
    place=st.integers(0, 200),
    bit=st.integers(0, 6),
)
def test_one_changed_bit_in_a_header_is_refused(which: str, place: int, bit: int) -> None:
    headers = signed()
    value = dict(headers)[which]
    place %= len(value)
    changed = value[:place] + chr(ord(value[place]) ^ (1 << bit)) + value[place + 1 :]
    assert problem_of(with_header(headers, which, changed)) in SignatureProblem


@given(
    message_id=st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="."), min_size=1, max_size=255
    ),
    body=st.text().map(lambda text: text.encode(errors="ignore")) | st.binary(max_size=30),
    secrets=st.lists(st.sampled_from([SVIX_SECRET, OTHER_SVIX_SECRET]), min_size=1, max_size=3),
    junk=st.sampled_from(["", "v1a,AAAA ", "v1,AAAA ", "v2,x ", " "]),
    age_s=st.sampled_from([0, 100, 299, 301, -299, -301]),
)
@example("msg_1", BODY, [SVIX_SECRET], "", 0)
def test_whatever_is_accepted_directly_svix_accepts_too(
    message_id: str, body: bytes, secrets: list[str], junk: str, age_s: int
) -> None:
    now = datetime.now(UTC)
    headers = svix_headers(body, message_id=message_id, secrets=secrets, timestamp=int(now.timestamp()) - age_s)
    headers = with_header(headers, "svix-signature", junk + headers[2][1])
    try:
        verify(RawWebhook(headers, body), KEYS, now)
    except SignatureError:
        return
    svix.Webhook(SVIX_SECRET).verify(body, dict(headers))
