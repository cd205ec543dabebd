"""Which requests are recorded: as the client says, and of others a share, as OpenTelemetry's sampler takes it."""

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from runners.trace import TraceContext
from shokado.dispatch.request_span import Sampler


@pytest.mark.parametrize(("share", "recorded"), [(0, 0), (1, 1000)])
def test_none_and_all(share: float, recorded: int) -> None:
    sampler = Sampler(share)
    assert sum(sampler.begin(None, 0.0, "/predict").recorded for _ in range(1000)) == recorded


def test_a_share_is_that_of_opentelemetrys_sampler() -> None:
    sampler, judge = Sampler(0.25), TraceIdRatioBased(0.25)
    spans = [sampler.begin(None, 0.0, "/predict") for _ in range(2000)]
    for span in spans:
        decision = judge.should_sample(None, span.trace_id, "").decision
        assert span.recorded == (decision is Decision.RECORD_AND_SAMPLE)
    assert 0 < sum(span.recorded for span in spans) < 2000


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_a_client_that_traces_decides_by_itself(share: float, flags: int) -> None:
    client = TraceContext(11, 12, flags, "a=1")
    span = Sampler(share).begin(client, 5.0, "/predict")
    assert (span.trace_id, span.parent_id, span.state) == (11, 12, "a=1")
    assert span.recorded == bool(flags & 1)
    assert span.flags == flags
    assert span.span_id not in (0, 12)
    assert (span.route, span.received_at) == ("/predict", 5.0)


def test_spans_have_lists_of_their_own() -> None:
    sampler = Sampler(1)
    one, other = sampler.begin(None, 0.0, ""), sampler.begin(None, 0.0, "")
    one.batches.append(TraceContext(1, 1))
    assert other.batches == []
