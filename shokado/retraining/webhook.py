"""The webhook: an event is posted, signed as of Standard Webhooks (https://www.standardwebhooks.com).

    webhook-id         the event's, the same at each attempt
    webhook-timestamp  of this attempt, in Unix seconds
    webhook-signature  v1, and the base64 of HMAC-SHA256 over "id.timestamp.body"

Certificates are checked, redirects are not followed, and an answer's body is not read. Any 2xx has accepted it.
"""

import asyncio
import contextlib
import hmac
import time
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from pathlib import Path
from urllib.parse import urlsplit

from configuration.regular_file import read_regular_file
from shokado.retraining.event import Outcome

_CONNECT_S = 5.0
_MAX_KEY_BYTES = 4096
_MIN_KEY_BYTES = 24
_PREFIX = b"whsec_"


class UnusableKey(Exception):
    """There is no secret to sign by; the message says why."""


async def post(url: str, event_id: str, body: bytes, key_file: Path | None, timeout_s: float) -> Outcome:
    """Post an event once; takes up to `timeout_s`."""
    import httpx

    where = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    try:
        headers = {"content-type": "application/json", **_signed(event_id, body, key_file, round(time.time()))}
    except UnusableKey as error:
        return Outcome(accepted=False, note=str(error))
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S))
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(timeout=timeout, follow_redirects=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status, rest = answer.status_code, answer.headers.get("retry-after", "")
    except (httpx.TimeoutException, TimeoutError):
        return Outcome(accepted=False, note=f"{where} did not answer within {timeout_s:g} s")
    except httpx.HTTPError as error:
        # Its words may have the whole address, which may hold a token.
        return Outcome(accepted=False, note=f"{where} cannot be reached ({type(error).__name__})")
    retry_after_s = 0.0
    # A date is not understood, and then the usual rest is kept.
    with contextlib.suppress(ValueError):
        retry_after_s = asked_s if (asked_s := float(rest)) > 0 else 0.0
    return Outcome(200 <= status < 300, f"{where} answered {status}", retry_after_s)


def _signed(event_id: str, body: bytes, key_file: Path | None, at: int) -> dict[str, str]:
    headers = {"webhook-id": event_id, "webhook-timestamp": str(at)}
    if key_file is None:
        return headers
    signature = hmac.digest(read_key(key_file), f"{event_id}.{at}.".encode() + body, "sha256")
    return headers | {"webhook-signature": f"v1,{b64encode(signature).decode()}"}


def read_key(path: Path) -> bytes:
    """Read for each attempt: a secret may be replaced while this runs. Raises `UnusableKey`."""
    try:
        content = read_regular_file(path, _MAX_KEY_BYTES).strip()
        key = b64decode(content.removeprefix(_PREFIX), validate=True) if content.startswith(_PREFIX) else content
    except OSError as error:
        raise UnusableKey(f"retraining.key_file: {path}: {error.strerror or error}") from None
    except NoBase64:
        raise UnusableKey(f"retraining.key_file: {path}: no base64 behind whsec_") from None
    if len(key) < _MIN_KEY_BYTES:
        raise UnusableKey(
            f"retraining.key_file: {path} must hold {_MIN_KEY_BYTES} bytes or more: openssl rand -base64 32"
        )
    return key
