"""What the headers of a prediction request say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.dialects.head import RequestHead, read_head


def head(**headers: str) -> RequestHead:
    return read_head([(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()])


def test_no_headers_are_a_plain_json_request() -> None:
    assert read_head([]) == RequestHead()


@pytest.mark.parametrize(
    "value", ["application/json", "Application/JSON", "application/json; charset=utf-8 ; a=b", " application/json "]
)
def test_content_types_are_read_without_parameters_and_case(value: str) -> None:
    assert head(content_type=value).content_type == b"application/json"


@pytest.mark.parametrize(
    ("value", "binary"),
    [
        ("application/octet-stream", True),
        ("APPLICATION/octet-stream;q=1", True),
        ("*/*", False),
        ("application/json, application/octet-stream", False),
    ],
)
def test_a_packed_answer_is_given_to_who_asks_for_it_first(value: str, binary: bool) -> None:
    assert head(accept=value).binary_answer is binary


@pytest.mark.parametrize("value", ["a", "A-1._:/+=@z", "x" * 128])
def test_a_sane_request_id_is_kept(value: str) -> None:
    assert head(x_request_id=value).request_id == value


@pytest.mark.parametrize("value", ["", " ", "a b", "x" * 129, "a\tb", "ä", 'a"b', "a,b", "<a>", "{1}"])
def test_any_other_request_id_is_replaced_without_a_problem(value: str) -> None:
    assert head(x_request_id=value) == RequestHead(id_unit=value.strip())


@pytest.mark.parametrize("value", ["v1", "a.b_c-D", "x" * 128])
def test_a_name_is_read(value: str) -> None:
    assert head(x_environment=value) == RequestHead(environment=value)
    assert head(x_model_version=value) == RequestHead(pins=(value,))


def test_versions_of_the_path_come_before_the_headers() -> None:
    assert read_head([(b"x-model-version", b"v2")], ("v1",)).pins == ("v1", "v2")


@pytest.mark.parametrize("name", ["x_model_version", "x_environment"])
@pytest.mark.parametrize("value", ["a b", "v/1", "x" * 129, "v1,v2", "é"])
def test_what_cannot_be_a_name_is_a_problem(name: str, value: str) -> None:
    problem = head(**{name: value}).problem
    assert problem is not None
    assert (problem.status, problem.code) == (400, "bad_header")
    assert problem.message.startswith(name.replace("_", "-"))


@pytest.mark.parametrize("value", ["user-1", "alice@example.com", "x" * 256, "a b"])
def test_a_unit_is_read_as_it_is(value: str) -> None:
    found = head(x_unit_id=value)
    assert (found.unit, found.problem) == (value, None)


@pytest.mark.parametrize(("value", "unit"), [("Zoë".encode(), "Zoë"), (b"Zo\xeb", "Zoë")])
def test_a_unit_is_the_same_text_as_in_a_body(value: bytes, unit: str) -> None:
    assert read_head([(b"x-unit-id", value)]).unit == unit


def test_a_long_unit_is_a_problem() -> None:
    problem = head(x_unit_id="x" * 257).problem
    assert problem is not None
    assert (problem.status, "256" in problem.message) == (400, True)


@pytest.mark.parametrize(
    ("value", "seconds"), [("1", 0.001), ("1500", 1.5), ("0.5", 0.0005), ("3600000", 3600), ("1e3", 1)]
)
def test_a_deadline_is_read_in_milliseconds(value: str, seconds: float) -> None:
    found = head(x_request_deadline_ms=value)
    assert found.deadline_s == pytest.approx(seconds)
    assert found.problem is None


@pytest.mark.parametrize("value", ["0", "-1", "3600001", "nan", "inf", "-inf", "soon", "1,5", "0x10", "1 2", "٣"])
def test_a_deadline_that_cannot_be_is_a_problem(value: str) -> None:
    problem = read_head([(b"x-request-deadline-ms", value.encode())]).problem
    assert problem is not None
    assert (problem.status, problem.code) == (400, "bad_header")


@pytest.mark.parametrize(("value", "length"), [("0", 0), ("17", 17), (" 9 ", 9)])
def test_the_length_of_the_json_before_binary_data_is_read(value: str, length: int) -> None:
    assert head(inference_header_content_length=value) == RequestHead(json_bytes=length)


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "1,1", "9" * 19])
def test_a_length_that_cannot_be_is_a_problem(value: str) -> None:
    problem = head(inference_header_content_length=value).problem
    assert problem is not None
    assert (problem.status, problem.code) == (400, "bad_header")


@pytest.mark.parametrize("value", ["gzip", "x-gzip", "Deflate"])
def test_a_compressed_body_is_understood(value: str) -> None:
    assert head(content_encoding=value) == RequestHead(coding=value.lower().encode())


@pytest.mark.parametrize("value", ["gzip, gzip", "identity, gzip", "zstd", "br"])
def test_what_is_compressed_otherwise_is_not_understood(value: str) -> None:
    problem = head(content_encoding=value).problem
    assert problem is not None
    assert (problem.status, value in problem.message) == (415, True)
    assert head(content_encoding="Identity") == RequestHead()


def test_empty_headers_say_nothing() -> None:
    assert head(x_model_version="", x_environment=" ", x_request_deadline_ms="") == RequestHead()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"content-type",
                    b"accept",
                    b"x-request-id",
                    b"x-model-version",
                    b"x-request-deadline-ms",
                    b"inference-header-content-length",
                    b"content-encoding",
                    b"x-forwarded-for",
                    b"forwarded",
                ]
            ),
            st.binary(max_size=30),
        )
    )
)
def test_any_header_bytes_can_be_read(headers: list[tuple[bytes, bytes]]) -> None:
    found = read_head(headers)
    if found.problem is not None:
        assert found.problem.status in (400, 415)
        assert found.problem.body("id")
    if found.request_id is not None:
        assert found.request_id.isascii()


@pytest.mark.parametrize("value", ["order-1", "{order-1}", "a" * 200])
def test_what_was_sent_as_id_is_the_unit_whether_it_is_kept_or_not(value: str) -> None:
    assert read_head([(b"x-request-id", value.encode())]).id_unit == value


def test_an_id_that_can_be_no_unit_is_a_problem() -> None:
    problem = read_head([(b"x-request-id", b"a" * 257)]).problem
    assert problem is not None
    assert problem.status == 400


@pytest.mark.parametrize(
    ("name", "one", "other", "code"),
    [
        (b"x-model-version", b"v1", b"v2", "conflicting_version"),
        (b"x-model-version", b"v1", b"", "conflicting_version"),
        (b"x-environment", b"staging", b"production", "bad_header"),
        (b"x-unit-id", b"user-1", b"user-2", "bad_header"),
        (b"x-request-deadline-ms", b"100", b"200", "bad_header"),
        (b"inference-header-content-length", b"10", b"20", "bad_header"),
        (b"content-encoding", b"gzip", b"identity", "bad_header"),
        (b"content-type", b"text/csv", b"application/json", "bad_header"),
    ],
)
def test_two_headers_of_one_name_that_differ_are_a_problem(name: bytes, one: bytes, other: bytes, code: str) -> None:
    """Whichever was taken, half of the clients would have meant the other."""
    for values in ((one, other), (other, one)):
        problem = read_head([(name, value) for value in values]).problem
        assert problem is not None
        assert (problem.status, problem.code) == (400, code)
        assert problem.message == f"{name.decode()} is sent twice, with different values"
    assert read_head([(name, one), (name, one)]).problem is None


def test_of_two_request_ids_one_is_a_proxys() -> None:
    head = read_head([(b"x-request-id", b"theirs"), (b"x-request-id", b"ours")])
    assert (head.problem, head.request_id) == (None, "ours")
