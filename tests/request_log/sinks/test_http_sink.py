"""The HTTP sink over real connections: what is taken, what is tried again, and what is never done."""

import ssl
import subprocess
from collections import deque
from pathlib import Path

import pytest

from configuration.log_settings import LogSettings
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.segments import Segment, SegmentDamaged, segments_in
from shokado.request_log.sinks.cloud_events import CONTENT_TYPE, EventSource
from shokado.request_log.sinks.http_sink import HttpSink
from shokado.request_log.sinks.sink import FailureReason, SinkFailure
from tests.request_log.records import encoded, request_of
from tests.request_log.sinks.receiver import receiving
from tests.support.cards import make_card
from tests.support.server import free_port
from tests.tools import needs

CARD = make_card()


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    writer = LogWriter(LogSettings(share=1), tmp_path / "log", "a", bytes(32))
    for number in range(20):
        writer.write(encoded(request_of(CARD, [[number, 2]], [0.75], prediction_id=f"p-{number}")), {1: CARD})
    writer.end_segment()
    (found,) = segments_in(tmp_path / "log")
    return found


def sink_to(url: str, timeout_s: float = 5.0, key_file: Path | None = None, max_batch_bytes: int = 4096) -> HttpSink:
    return HttpSink(url, EventSource("toy", "default"), timeout_s, max_batch_bytes, key_file)


def failure_of(sink: HttpSink, segment: Segment) -> SinkFailure:
    with pytest.raises(SinkFailure) as raised:
        next(sink.steps(segment))()
    return raised.value


def test_all_events_are_posted_in_their_order_and_in_batches(segment: Segment) -> None:
    with receiving() as receiver:
        for step in sink_to(receiver.url).steps(segment):
            step()
        assert receiver.ids("request") == receiver.ids("response") == [f"p-{number}" for number in range(20)]
        assert 1 < len(receiver.taken) < 20
        assert max(receiver.sizes) <= 4097
        assert {head["content-type"] for head in receiver.heads} == {CONTENT_TYPE}
        assert "authorization" not in receiver.heads[0]


def test_a_step_that_failed_can_be_taken_again(segment: Segment) -> None:
    with receiving() as receiver:
        receiver.script = [(503, {"retry-after": "7"}), (202, {})]
        sink = sink_to(receiver.url)
        step = next(sink.steps(segment))
        with pytest.raises(SinkFailure, match="it answers 503") as raised:
            step()
        assert (raised.value.reason, raised.value.retry_after_s) == (FailureReason.REFUSED, 7)
        step()
        assert receiver.ids("request")[0] == "p-0"


@pytest.mark.parametrize(
    ("status", "headers", "reason", "retry_after_s"),
    [
        (400, {}, FailureReason.REFUSED, 0),
        (401, {}, FailureReason.DENIED, 0),
        (403, {}, FailureReason.DENIED, 0),
        (429, {"retry-after": "999999"}, FailureReason.REFUSED, 300),
        (429, {"retry-after": "-5"}, FailureReason.REFUSED, 0),
        (429, {"retry-after": "soon"}, FailureReason.REFUSED, 0),
        (500, {}, FailureReason.REFUSED, 0),
    ],
)
def test_a_refusal_is_told_by_its_kind(
    segment: Segment, status: int, headers: dict[str, str], reason: FailureReason, retry_after_s: float
) -> None:
    with receiving() as receiver:
        receiver.script = [(status, headers)]
        failure = failure_of(sink_to(receiver.url), segment)
        assert (failure.reason, failure.retry_after_s) == (reason, retry_after_s)


def test_a_redirect_is_not_followed(segment: Segment) -> None:
    with receiving() as elsewhere, receiving() as receiver:
        for status in (301, 302, 307, 308):
            receiver.script = [(status, {"location": elsewhere.url})]
            assert failure_of(sink_to(receiver.url), segment).reason is FailureReason.REFUSED
        assert elsewhere.heads == []


def test_the_key_is_read_for_each_batch_and_shown_to_nobody_else(segment: Segment, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("first-secret\n")
    with receiving() as receiver:
        sink = sink_to(receiver.url, key_file=key_file)
        next(sink.steps(segment))()
        key_file.write_text("second-secret\n")
        receiver.script = [(403, {})]
        failure = failure_of(sink, segment)
        assert [head["authorization"] for head in receiver.heads] == ["Bearer first-secret", "Bearer second-secret"]
        assert "secret" not in str(failure)
        for spoil in (key_file.unlink, lambda: key_file.write_bytes(b"\xff\xfe")):
            spoil()
            failure = failure_of(sink, segment)
            assert failure.reason is FailureReason.DENIED
            assert "log.sink.key_file" in str(failure)
        assert len(receiver.heads) == 2, "without its key it asks for nothing"


def test_who_does_not_answer_is_left(segment: Segment) -> None:
    with receiving() as receiver:
        receiver.script = [(0, {})]
        assert failure_of(sink_to(receiver.url, timeout_s=0.2), segment).reason is FailureReason.TIMEOUT
    assert failure_of(sink_to(f"http://127.0.0.1:{free_port()}"), segment).reason is FailureReason.UNREACHABLE


def test_an_answer_without_an_end_is_not_waited_for(segment: Segment) -> None:
    with receiving() as receiver:
        receiver.endless = True
        receiver.script = [(500, {}), (202, {})]
        sink = sink_to(receiver.url)
        assert failure_of(sink, segment).reason is FailureReason.REFUSED
        next(sink.steps(segment))()
        assert receiver.ids("request")[0] == "p-0"


@needs("openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiving(context) as receiver:
        failure = failure_of(sink_to(receiver.url), segment)
        assert failure.reason is FailureReason.UNREACHABLE
        assert "CERTIFICATE_VERIFY_FAILED" in str(failure)
        assert receiver.heads == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        next(sink_to(receiver.url).steps(segment))()
        assert receiver.ids("request")[0] == "p-0"


def test_a_segment_is_read_as_it_is_sent(segment: Segment) -> None:
    """What comes before a block that is damaged is sent, so that no segment need be in memory as a whole."""
    content = bytearray(segment.path.read_bytes())
    content[-3] ^= 1
    segment.path.write_bytes(content)
    with receiving() as receiver:
        steps = sink_to(receiver.url, max_batch_bytes=1024).steps(segment)
        with pytest.raises(SegmentDamaged):
            deque(step() for step in steps)
        assert receiver.ids("request") == [f"p-{number}" for number in range(len(receiver.ids("request")))]
        assert len(receiver.ids("request")) >= 15
