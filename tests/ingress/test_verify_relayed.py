"""Relayed mode: the relay's signature proves the body, Svix's proves the id."""

import pytest

from ingress.verify import Keys, verify
from ingress.webhook import Mode, RawWebhook, VerifiedWebhook
from shared.errors import SignatureError, SignatureProblem
from tests.ingress.signing import (
    HOOKDECK_SECRET,
    OTHER_SVIX_SECRET,
    SVIX_SECRET,
    Headers,
    hookdeck_headers,
    hookdeck_signature,
    svix_headers,
)
from tests.ingress.test_verify import BODY, NOW, NOW_S

BOTH = Keys.of(svix_secrets=[SVIX_SECRET], hookdeck_secrets=[HOOKDECK_SECRET], relay_prefix="x-hookdeck")
RELAY_ONLY = Keys.of(svix_secrets=[], hookdeck_secrets=[HOOKDECK_SECRET], relay_prefix="x-hookdeck")
A_WEEK_AGO_S = NOW_S - 7 * 86400


def accepted(headers: Headers, keys: Keys = BOTH, body: bytes = BODY) -> VerifiedWebhook:
    return verify(RawWebhook(headers, body), keys, NOW)


def problem_of(headers: Headers, keys: Keys = BOTH, body: bytes = BODY) -> SignatureProblem:
    with pytest.raises(SignatureError) as caught:
        verify(RawWebhook(headers, body), keys, NOW)
    return caught.value.problem


def without(headers: Headers, *names: str) -> Headers:
    return [header for header in headers if header[0] not in names]


def test_the_published_vector_is_accepted() -> None:
    assert hookdeck_signature(BODY) == "/P7zeI181tBjcmIcVUJUlklS2SDbXO/F/7TjwdRwS7I="
    assert accepted(hookdeck_headers(BODY), RELAY_ONLY).mode is Mode.HOOKDECK


def test_a_replay_days_later_keeps_the_id_that_svix_signed() -> None:
    verified = accepted(hookdeck_headers(BODY) + svix_headers(BODY, timestamp=A_WEEK_AGO_S, message_id="msg_week"))
    assert verified.id == "msg_week"
    assert verified.sent_at.timestamp() == A_WEEK_AGO_S


def test_a_changed_svix_id_is_forged_though_the_relay_signed() -> None:
    headers = hookdeck_headers(BODY) + svix_headers(BODY, timestamp=NOW_S, message_id="msg_1")
    changed = [(name, "msg_2" if name == "svix-id" else value) for name, value in headers]
    assert problem_of(changed) == "forged"


def test_a_svix_signature_of_another_secret_is_forged_though_the_relay_signed() -> None:
    assert problem_of(hookdeck_headers(BODY) + svix_headers(BODY, secrets=[OTHER_SVIX_SECRET])) == "forged"


def test_a_wrong_relay_signature_is_forged_though_svix_signed() -> None:
    headers = hookdeck_headers(BODY, secret="another") + svix_headers(BODY, timestamp=NOW_S)
    assert problem_of(headers) == "forged"


def test_a_changed_body_is_forged() -> None:
    assert problem_of(hookdeck_headers(BODY), RELAY_ONLY, BODY + b" ") == "forged"


def test_while_the_relays_secret_is_replaced_its_second_signature_proves() -> None:
    headers = hookdeck_headers(BODY, secret="the new one")
    assert accepted([*headers, ("x-hookdeck-signature-2", hookdeck_signature(BODY))]).mode is Mode.HOOKDECK


def test_an_empty_second_signature_counts_as_none() -> None:
    assert accepted([*hookdeck_headers(BODY), ("x-hookdeck-signature-2", "")]).mode is Mode.HOOKDECK


def test_any_of_several_relay_secrets_proves() -> None:
    keys = Keys.of(svix_secrets=[], hookdeck_secrets=["old", HOOKDECK_SECRET], relay_prefix="x-hookdeck")
    assert accepted(hookdeck_headers(BODY), keys).id == "evt_1"


def test_a_renamed_prefix_is_honoured() -> None:
    keys = Keys.of(svix_secrets=[], hookdeck_secrets=[HOOKDECK_SECRET], relay_prefix="X-Acme")
    assert accepted(hookdeck_headers(BODY, prefix="x-acme"), keys).id == "evt_1"


def test_without_a_svix_secret_the_id_is_the_svix_id_on_the_relays_word() -> None:
    headers = hookdeck_headers(BODY) + svix_headers(BODY, secrets=[OTHER_SVIX_SECRET], message_id="msg_9")
    assert accepted(headers, RELAY_ONLY).id == "msg_9"


def test_without_a_svix_secret_and_a_svix_id_it_is_the_relays_own() -> None:
    assert accepted(hookdeck_headers(BODY, event_id="evt_7"), RELAY_ONLY).id == "evt_7"


def test_with_a_svix_secret_a_svix_id_that_nobody_signed_is_not_used() -> None:
    headers = hookdeck_headers(BODY, event_id="evt_7") + without(svix_headers(BODY), "svix-signature")
    assert accepted(headers).id == "evt_7"


def test_what_the_relay_itself_calls_unverified_is_forged() -> None:
    headers = [*without(hookdeck_headers(BODY), "x-hookdeck-verified"), ("x-hookdeck-verified", "false")]
    assert problem_of(headers, RELAY_ONLY) == "forged"


def test_without_any_id_it_is_refused() -> None:
    assert problem_of(without(hookdeck_headers(BODY), "x-hookdeck-eventid"), RELAY_ONLY) == "missing"


@pytest.mark.parametrize("signature", ["", "!!", "AAAA", hookdeck_signature(BODY)[:-1], "\udc80"])
def test_what_is_no_relay_signature_is_malformed(signature: str) -> None:
    headers = [("x-hookdeck-signature", signature), ("x-hookdeck-eventid", "evt_1")]
    assert problem_of(headers, RELAY_ONLY) == "malformed"


def test_a_relay_signature_that_comes_twice_is_malformed() -> None:
    headers = hookdeck_headers(BODY)
    assert problem_of([headers[0], *headers], RELAY_ONLY) == "malformed"


def test_without_a_relay_secret_the_relays_headers_prove_and_disprove_nothing() -> None:
    svix_only = Keys.of(svix_secrets=[SVIX_SECRET], hookdeck_secrets=[], relay_prefix="x-hookdeck")
    assert problem_of(hookdeck_headers(BODY), svix_only) == "missing"
    assert accepted(hookdeck_headers(BODY) + svix_headers(BODY, timestamp=NOW_S), svix_only).mode is Mode.SVIX
