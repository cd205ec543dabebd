"""A receiver of CloudEvents over HTTP: batches are posted, one after the other.

Certificates are checked, redirects are not followed, and an answer's body is not kept.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from configuration.credentials import without_credentials
from configuration.regular_file import read_regular_file
from shokado.request_log.logged_rows import RecordReader
from shokado.request_log.records import Record
from shokado.request_log.segments import Segment, records_of
from shokado.request_log.sinks.cloud_events import CONTENT_TYPE, EventSource, batches, events_of
from shokado.request_log.sinks.sink import FailureReason, SinkFailure, Step

CONNECT_S = 5.0
"""For a connection: where packets are dropped, nothing else tells that nobody is there."""
MAX_RETRY_AFTER_S = 300.0
"""The longest rest that a receiver may ask for."""
_MAX_KEY_BYTES = 4096
_MAX_ANSWER_BYTES = 2**16
"""The rest of a longer answer is not waited for, and its connection is closed."""
_DENIED = (401, 403, 407)


class HttpSink:
    """Make one in the process that sends."""

    def __init__(
        self, url: str, origin: EventSource, timeout_s: float, max_batch_bytes: int, key_file: Path | None = None
    ) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._url = url
        self._origin = origin
        self._max_batch_bytes = max_batch_bytes
        self._key_file = key_file
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
        self._client = httpx.Client(timeout=timeout, follow_redirects=False)

    def steps(self, segment: Segment) -> Iterator[Step]:
        reader = RecordReader()
        records = (record for block, _ in records_of(segment) for record in block)
        for batch in batches(self._events(records, reader), self._max_batch_bytes):
            yield partial(self._post, batch)

    def _events(self, records: Iterator[Record], reader: RecordReader) -> Iterator[bytes]:
        return events_of(records, reader, self._origin)

    def _post(self, batch: bytes) -> None:
        headers = {"content-type": CONTENT_TYPE, **self._authorization()}
        try:
            with self._client.stream("POST", self._url, content=batch, headers=headers) as answer:
                status = answer.status_code
                rest = answer.headers.get("retry-after", "")
                length = 0
                for chunk in answer.iter_raw():
                    length += len(chunk)
                    if length > _MAX_ANSWER_BYTES:
                        break
        except httpx.TimeoutException as error:
            raise SinkFailure(FailureReason.TIMEOUT, f"no answer in time ({type(error).__name__})") from None
        except httpx.TransportError as error:
            message = without_credentials(f"{type(error).__name__}: {error}")
            raise SinkFailure(FailureReason.UNREACHABLE, message) from None
        if not 200 <= status < 300:
            raise _refusal(status, rest)

    def _authorization(self) -> dict[str, str]:
        """Read for each batch: a key may be replaced while this runs."""
        if self._key_file is None:
            return {}
        try:
            key = read_regular_file(self._key_file, _MAX_KEY_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            words = getattr(error, "strerror", None) or "not a key of ASCII characters"
            raise SinkFailure(FailureReason.DENIED, f"log.sink.key_file: {self._key_file}: {words}") from None
        return {"authorization": f"Bearer {key}"}


def _refusal(status: int, rest: str) -> SinkFailure:
    if status in _DENIED:
        return SinkFailure(FailureReason.DENIED, f"it answers {status}; its key belongs into log.sink.key_file")
    if 300 <= status < 400:
        return SinkFailure(FailureReason.REFUSED, f"it answers {status}; redirects are not followed, name their target")
    retry_after_s = 0.0
    # A date is not understood, and then the usual rest is kept.
    with contextlib.suppress(ValueError):
        retry_after_s = min(max(float(rest), 0.0), MAX_RETRY_AFTER_S)
    return SinkFailure(FailureReason.REFUSED, f"it answers {status}", retry_after_s)
