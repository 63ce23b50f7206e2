"""TLS to the broker, as the query of its address asks for it; the words are those of the consumers' client.

In: `cafile`, `capath`, `cadata` (base64 of DER), `certfile`, `keyfile`, `no_verify_ssl`. Out: a context, or a sentence
for whoever wrote the address.
"""

import base64
import binascii
import ssl
from collections.abc import Mapping
from pathlib import Path


def context(query: Mapping[str, str]) -> ssl.SSLContext:
    """Without any of the words: the system's certificates, and no certificate of our own.

    Raises:
        OSError, ValueError: something named there cannot be read, or is not what it should be.
    """
    made = ssl.create_default_context(
        cafile=query.get("cafile") or None, capath=query.get("capath") or None, cadata=_der(query)
    )
    if certfile := query.get("certfile"):
        _show_certificate(made, certfile, query.get("keyfile"))
    if query.get("no_verify_ssl", "0") != "0":
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def trouble(query: Mapping[str, str]) -> str | None:
    """What is wrong with the certificates that the query names, and what to do; None when they can be used."""
    return (
        trouble_with_cadata(query)
        or _trouble_with_checking(query)
        or _trouble_with_authorities(query)
        or _trouble_with_certificate(query.get("certfile"), query.get("keyfile"))
    )


def trouble_with_cadata(query: Mapping[str, str]) -> str | None:
    """Apart from the others: the consumers' client stumbles over it without TLS, too."""
    try:
        if der := _der(query):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (OSError, ValueError):
        return (
            "cadata is no certificate: write the base64 of its DER form, each + of it as %2B, "
            "or name a file of PEM certificates with cafile"
        )
    return None


def _trouble_with_checking(query: Mapping[str, str]) -> str | None:
    """Both clients take every value but 0 for a yes, `false` as well: nobody who writes that wants it."""
    if query.get("no_verify_ssl", "0") not in {"0", "1"}:
        return "no_verify_ssl is neither 0 nor 1: leave it out to have the broker's certificate checked"
    return None


def _trouble_with_authorities(query: Mapping[str, str]) -> str | None:
    cafile, capath = query.get("cafile"), query.get("capath")
    if capath and not Path(capath).is_dir():
        return f"capath {capath} is no folder: name the one with the authorities' certificates"
    try:
        if cafile:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cafile)
    except ssl.SSLError:
        return f"cafile {cafile} holds no certificate: name a file of PEM certificates"
    except OSError as error:
        return f"cafile {cafile} cannot be read ({error.strerror}): name a file of PEM certificates"
    return None


def _trouble_with_certificate(certfile: str | None, keyfile: str | None) -> str | None:
    if not certfile:
        return "keyfile is of no use alone: name its certificate with certfile" if keyfile else None
    try:
        for path in filter(None, (certfile, keyfile)):
            with Path(path).open("rb"):
                pass
        _show_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certfile, keyfile)
    except (ssl.SSLError, ValueError):
        return (
            f"certfile {certfile} and its key ({keyfile or 'in the same file'}) do not go together: "
            "name a PEM certificate, and its PEM key without a passphrase with keyfile"
        )
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror}): see certfile and keyfile"
    return None


def _show_certificate(made: ssl.SSLContext, certfile: str, keyfile: str | None) -> None:
    # Without a word for it OpenSSL would ask the terminal, and wait.
    made.load_cert_chain(certfile, keyfile or None, password="")


def _der(query: Mapping[str, str]) -> bytes | None:
    text = query.get("cadata")
    try:
        return base64.b64decode(text) if text else None
    except binascii.Error as error:
        raise ValueError("cadata is no base64") from error
