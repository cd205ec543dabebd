"""The table of requests that both transports must answer alike: good ones, and one for each kind of fault."""

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from shokado.dialects.head import BINARY
from tests.support.raw_http import NATIVE, SINGLE, request
from tests.support.server import ROW

NAMES = (
    "age", "income", "credit_score", "num_purchases", "account_age_days", "avg_transaction", "num_returns",
    "is_premium", "region", "category_preference",
)  # fmt: skip
NAMED = dict(zip(NAMES, ROW, strict=True))
OTHER_ROW = [61.0, 18_500.0, 455.0, 2.0, 90.0, 12.25, 3.0, 1.0, 0.0, 1.0]
PACKED = np.array([ROW, OTHER_ROW], dtype="<f4").tobytes()
MAX_ROWS = 10_000
MAX_BODY_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Case:
    """A request and what its answer must be."""

    name: str
    body: bytes
    route: str = NATIVE
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str | None = "application/json"
    status: int = 200
    code: str | None = None
    row: int | None = None
    feature: str | None = None
    """Where the answer must say that the fault is."""

    def __str__(self) -> str:
        return f"{self.name} to {self.route}"

    def bytes_for(self, transport: str) -> bytes:
        """The request for `lane` or `plain`: a query string keeps it off the lane."""
        path = self.route + ("?x=1" if transport == "plain" else "")
        return request(self.body, path, headers=self.headers, content_type=self.content_type)


FOREIGN_TYPES = (
    "text/csv",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/msgpack",
    "multipart/form-data; boundary=x",
    "application/vnd.bentoml+pickle",
    "nonsense",
    "",
)


def native(**fields: Any) -> bytes:
    return json.dumps({"instances": [ROW], "version": "v1"} | fields).encode()


def single(**fields: Any) -> bytes:
    return json.dumps({"features": NAMED, "model_version": "v1"} | fields).encode()


def _with(value: str, column: int = 4) -> str:
    """The usual row as JSON with one value replaced, which need not be JSON that Python would write."""
    return "[" + ", ".join(value if index == column else str(number) for index, number in enumerate(ROW)) + "]"


def _good() -> list[Case]:
    reverse = dict(reversed(NAMED.items()))
    return [
        Case("a list", native()),
        *(
            Case(f"{coding} by {len(body)}", body, NATIVE, (("content-encoding", coding),))
            for coding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress))
            for body in (compress(native()), compress(native(instances=[ROW, OTHER_ROW] * 3000)))
        ),
        Case(
            "packed and compressed", gzip.compress(PACKED), NATIVE,
            (("content-encoding", "gzip"), ("x-model-version", "v2")), BINARY.decode(),
        ),
        Case("an object", native(instances=[NAMED])),
        Case("an object in another order", native(instances=[reverse])),
        Case("lists and objects", native(instances=[ROW, NAMED, OTHER_ROW, reverse])),
        Case("many rows", native(instances=[ROW, OTHER_ROW] * 300)),
        Case("as many rows as allowed", native(instances=[[0] * 10] * MAX_ROWS)),
        Case("integers and exponents", native(instances=[[1, -2, 0, 3e2, 4, -0.0, 1e-300, 3.4e38, 7, 8]])),
        Case("white space", b' {"instances" : [ [1,2,3,4,5,6,7,8,9,10] ] ,\r\n\t"version":"v1"} \n'),
        Case("an escaped name", native(instances=[NAMED]).replace(b"age", b"\\u0061ge")),
        Case("a pinned version", native(version="v2")),
        Case("a pinned alias", native(version="b")),
        Case("a version pinned by header", native(version=None), headers=(("X-Model-Version", "v2"),)),
        Case("an alias pinned by header", native(version=None), headers=(("x-model-version", "a"),)),
        Case("a header that says what the body says", native(version="v2"), headers=(("x-model-version", "v2"),)),
        Case("an environment", native(version=None), headers=(("x-environment", "staging"),)),
        Case("a pin within an environment", native(), headers=(("x-environment", "staging"),)),
        Case("packed rows", PACKED, headers=(("x-model-version", "v1"),), content_type="application/octet-stream"),
        Case(
            "packed rows and packed scores", PACKED, content_type="application/octet-stream",
            headers=(("x-model-version", "v1"), ("accept", "application/octet-stream")),
        ),
        Case("packed scores for JSON", native(), headers=(("accept", "Application/Octet-Stream"),)),
        Case("accepting anything", native(), headers=(("accept", "*/*"),)),
        Case("a deadline", native(), headers=(("x-request-deadline-ms", "20000"),)),
        Case("an id that is kept", native(), headers=(("x-request-id", "order-4711.a:b/c+d=e@f_g"),)),
        Case("an id that is refused", native(), headers=(("x-request-id", "a b"),)),
        Case("an id that is too long", native(), headers=(("x-request-id", "a" * 129),)),
        Case("a unit", native(unit="user-7")),
        Case("all unit fields", native(unit=7, user_id="u", request_id="r")),
        Case("a content type with parameters", native(), content_type="Application/JSON; charset=utf-8"),
        Case("no content type", native(), content_type=None),
        Case("unknown headers", native(), headers=(("x-anything", "at all"), ("cookie", "a=b"))),
        Case("an object", single(), SINGLE),
        Case("an object in another order", single(features=reverse), SINGLE),
        Case("a list", single(features=ROW), SINGLE),
        Case("a pinned version", single(model_version="v2"), SINGLE),
        Case("a pinned alias", single(model_version="b"), SINGLE),
        Case("a version pinned by header", single(model_version=None), SINGLE, headers=(("x-model-version", "v2"),)),
        Case("no A/B testing", single(model_version=None, use_ab_testing=False), SINGLE),
        Case("A/B testing of one version", single(model_version=None), SINGLE, headers=(("x-environment", "staging"),)),
        Case("all unit fields", single(unit=7, user_id="u", request_id="r"), SINGLE),
        Case("an id that is kept", single(), SINGLE, headers=(("x-request-id", "4711"),)),
    ]  # fmt: skip


def _bad_values(route: str) -> list[Case]:
    """Each value that is not a number for the model, in the second of two rows or in the only one."""
    digits = "1" + "0" * 400
    values = [
        ("NaN", "NaN", 422, "not_finite"),
        ("Infinity", "Infinity", 422, "not_finite"),
        ("-Infinity", "-Infinity", 422, "not_finite"),
        ("beyond float64", "1e999", 422, "not_finite"),
        ("beyond float64 in digits", digits, 422, "not_finite"),
        ("beyond float32", "3.5e38", 422, "not_finite"),
        ("beyond float32, negative", "-1e39", 422, "not_finite"),
        ("null", "null", 422, "not_a_number"),
        ("true", "true", 422, "not_a_number"),
        ("false", "false", 422, "not_a_number"),
        ("text", '"abc"', 422, "not_a_number"),
        ("a number as text", '"1"', 422, "not_a_number"),
        ("empty text", '""', 422, "not_a_number"),
        ("a list as value", "[1]", 422, "not_a_number"),
        ("an object as value", "{}", 422, "not_a_number"),
    ]
    cases = []
    for name, value, status, code in values:
        rows = f'"instances": [{ROW}, {_with(value)}]' if route == NATIVE else f'"features": {_with(value)}'
        body = f"{{{rows}}}".encode()
        row = 1 if route == NATIVE else 0
        cases.append(Case(name, body, route, status=status, code=code, row=row, feature="account_age_days"))
        named = json.dumps(NAMED).replace("800.0", value)
        rows = f'"instances": [{json.dumps(NAMED)}, {named}]' if route == NATIVE else f'"features": {named}'
        body = f"{{{rows}}}".encode()
        cases.append(
            Case(f"{name} by name", body, route, status=status, code=code, row=row, feature="account_age_days")
        )
    return cases


def _bad_rows() -> list[Case]:
    missing = {name: value for name, value in NAMED.items() if name != "region"}
    unknown = {("colour" if name == "region" else name): value for name, value in NAMED.items()}
    extra = {**NAMED, "colour": 1.0}
    cases = []
    for route, make, field, row in ((NATIVE, native, "instances", 1), (SINGLE, single, "features", 0)):
        for name, bad, code, feature in (
            ("too few values", ROW[:-1], "wrong_feature_count", None),
            ("too many values", [*ROW, 1.0], "wrong_feature_count", None),
            ("an empty row", [], "wrong_feature_count", None),
            ("a missing name", missing, "missing_feature", "region"),
            ("an unknown name", unknown, "unknown_feature", "colour"),
            ("one name too many", extra, "unknown_feature", "colour"),
            ("a name of half a surrogate pair", {**missing, "\ud800": 1.0}, "unknown_feature", None),
            ("a very long name", {**missing, "n" * 10_000: 1.0}, "unknown_feature", "n" * 100),
            ("an empty object", {}, "missing_feature", "age"),
            ("a number for a row", 5, "wrong_type", None),
            ("text for a row", "abc", "wrong_type", None),
            ("null for a row", None, "wrong_type", None),
        ):
            content = [ROW, bad] if route == NATIVE else bad
            cases.append(Case(name, make(**{field: content}), route, status=422, code=code, row=row, feature=feature))
    return cases


def _bad_bodies() -> list[Case]:
    cases = []
    for route, make, field in ((NATIVE, native, "instances"), (SINGLE, single, "features")):
        for name, body in (
            ("no body", b""),
            ("white space only", b"  \r\n"),
            ("half a body", make()[:-20]),
            ("two bodies", make() * 2),
            ("no JSON", b"instances=1"),
            ("not UTF-8", make().replace(b"v1", b"\xff\xfe")),
            ("a byte order mark", b"\xef\xbb\xbf" + make()),
            ("UTF-16", make().decode().encode("utf-16")),
            ("100,000 brackets", b"[" * 100_000),
            ("100,000 brackets as rows", b'{"%b": %b' % (field.encode(), b"[" * 100_000)),
            ("100,000 brackets, closed", b'{"%b": %b%b}' % (field.encode(), b"[" * 100_000, b"]" * 100_000)),
            ("10,000 objects", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
            ("a control character", make().replace(b"v1", b"v\x001")),
        ):
            cases.append(Case(name, body, route, status=400, code="malformed_body"))
        nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        cases.append(Case("100,000 objects", nested, route, status=413, code="too_many_rows"))
        for name, body, code in (
            ("a list for a body", b"[]", "wrong_type"),
            ("null for a body", b"null", "wrong_type"),
            ("text for a body", b'"abc"', "wrong_type"),
            ("another field", make(colour=1), "wrong_type"),
            ("an empty object for a body", b"{}", "missing_field"),
            ("null for the rows", make(**{field: None}), "wrong_type"),
            ("text for the rows", make(**{field: "abc"}), "wrong_type"),
            ("a number for the rows", make(**{field: 1}), "wrong_type"),
            ("a number for a unit's name", make(unit=1.5), "wrong_type"),
            ("a list for a user", make(user_id=[]), "wrong_type"),
        ):
            cases.append(Case(name, body, route, status=422, code=code))
    return [
        *cases,
        Case("an empty list", native(instances=[]), status=422, code="no_rows"),
        Case("a number for the version", native(version=1), status=422, code="wrong_type"),
        Case("an object for the rows", native(instances={}), status=422, code="wrong_type"),
        Case("a number for the version", single(model_version=1), SINGLE, status=422, code="wrong_type"),
        Case("text for a switch", single(use_ab_testing="no"), SINGLE, status=422, code="wrong_type"),
        Case("a row too many", native(instances=[[0] * 10] * (MAX_ROWS + 1)), status=413, code="too_many_rows"),
        Case(
            "a row too many and a bad one",
            native(instances=[[None]] * (MAX_ROWS + 1)),
            status=413,
            code="too_many_rows",
        ),
        Case("a body a byte too long", b" " * (MAX_BODY_BYTES + 1), status=413, code="body_too_large"),
        Case("a body a byte too long", b" " * (MAX_BODY_BYTES + 1), SINGLE, status=413, code="body_too_large"),
        Case("ten million rows", b"[0]," * 10_000_000, status=413, code="body_too_large"),
    ]


def _bad_packed() -> list[Case]:
    def packed(name: str, body: bytes, code: str, **where: Any) -> Case:
        return Case(name, body, content_type=BINARY.decode(), status=where.pop("status", 422), code=code, **where)

    values = np.array([ROW, OTHER_ROW, ROW], dtype="<f4")
    values[1, 8] = np.nan
    infinite = np.array([ROW, OTHER_ROW], dtype="<f4")
    infinite[1, 0] = -np.inf
    return [
        packed("no packed rows", b"", "no_rows"),
        packed("half a packed value", PACKED[:-2], "wrong_feature_count"),
        packed("a packed value short", PACKED[:-4], "wrong_feature_count"),
        packed("a packed NaN", values.tobytes(), "not_finite", row=1, feature="region"),
        packed("a packed infinity", infinite.tobytes(), "not_finite", row=1, feature="age"),
        packed("a packed row too many", bytes(40 * (MAX_ROWS + 1)), "too_many_rows", status=413),
    ]


def _bad_heads() -> list[Case]:
    cases = []
    for route, body in ((NATIVE, native(version=None)), (SINGLE, single(model_version=None))):
        for content_type in FOREIGN_TYPES:
            code = "unsupported_media_type"
            cases.append(Case(f"type {content_type!r}", body, route, content_type=content_type, status=415, code=code))
        for header, value, status, code in (
            ("content-encoding", "br", 415, "unsupported_encoding"),
            ("content-encoding", "gzip", 400, "malformed_body"),
            ("content-encoding", "deflate", 400, "malformed_body"),
            ("x-model-version", "v9", 404, "unknown_version"),
            ("x-model-version", "v 1", 400, "bad_header"),
            ("x-model-version", "n" * 129, 400, "bad_header"),
            ("x-model-version", "v1\xe9", 400, "bad_header"),
            ("x-environment", "nowhere", 404, "unknown_environment"),
            ("x-environment", "../etc", 400, "bad_header"),
            ("x-request-deadline-ms", "soon", 400, "bad_header"),
            ("x-request-deadline-ms", "0", 400, "bad_header"),
            ("x-request-deadline-ms", "-5", 400, "bad_header"),
            ("x-request-deadline-ms", "nan", 400, "bad_header"),
            ("x-request-deadline-ms", "inf", 400, "bad_header"),
            ("x-request-deadline-ms", "1e99", 400, "bad_header"),
            ("x-request-deadline-ms", "0.000001", 504, "deadline_exceeded"),
        ):
            name = f"{header}: {value[:20]}"
            cases.append(Case(name, body, route, headers=((header, value),), status=status, code=code))
    return [
        *cases,
        Case(
            "a bomb", gzip.compress(bytes(2**22)), headers=(("content-encoding", "gzip"),), status=413,
            code="compressed_too_well",
        ),
        Case("packed rows", PACKED, SINGLE, content_type=BINARY.decode(), status=415, code="unsupported_media_type"),
        Case("an unknown version", native(version="v9"), status=404, code="unknown_version"),
        Case(
            "two versions", native(version="v1"), headers=(("x-model-version", "v2"),), status=400,
            code="conflicting_version",
        ),
        Case(
            "two versions", single(model_version="v1"), SINGLE, headers=(("x-model-version", "v2"),), status=400,
            code="conflicting_version",
        ),
        Case(
            "two environments", native(), headers=(("x-environment", "staging"), ("x-environment", "production")),
            status=400, code="bad_header",
        ),
        Case("an empty version", native(version=""), status=404, code="unknown_version"),
        Case("a strange version", native(version="../\n\u2603'\""), status=404, code="unknown_version"),
        Case("an unknown version", single(model_version="v9"), SINGLE, status=404, code="unknown_version"),
        Case(
            "a bad row and a kept id", native(instances=[[]]), headers=(("x-request-id", "mine-1"),), status=422,
            code="wrong_feature_count", row=0,
        ),
    ]  # fmt: skip


GOOD = _good()
BAD = [*_bad_values(NATIVE), *_bad_values(SINGLE), *_bad_rows(), *_bad_bodies(), *_bad_packed(), *_bad_heads()]


def _others() -> list[Case]:
    """Of the other dialects, each pinned to a version; their errors have shapes of their own."""
    pin = (("x-model-version", "v1"),)
    rows: list[Any] = [NAMED, ROW]
    columns = {name: [value] for name, value in NAMED.items()}
    table = ",".join(NAMES) + "\n" + ",".join(map(str, ROW)) + "\n"
    good: list[tuple[str, Any]] = [
        ("/api/v1/predictions", {"features": NAMED}),
        ("/api/v1/ab/predictions", {"features": NAMED}),
        ("/api/v1/models/a/predictions", {"features": ROW}),
        ("/batch_predict", {"instances": rows}),
        ("/predict/batch", {"instances": rows}),
        ("/v1/models/customers:predict", {"instances": rows}),
        ("/v1/models/v1:predict", {"instances": rows}),
        ("/invocations", {"dataframe_split": {"columns": list(NAMES), "data": [ROW]}}),
        ("/invocations", {"dataframe_records": [NAMED]}),
        ("/invocations", {"instances": rows}),
        ("/invocations", {"inputs": columns}),
        ("/invocations", {"instances": rows, "params": {"predict_method": "predict_proba"}}),
    ]
    other_method = {"instances": rows, "params": {"predict_method": "transform"}}
    rows_alone = json.dumps({"instances": [ROW]}).encode()
    bad: list[tuple[str, Any]] = [(path, {}) for path, _ in good[:8]] + [(path, []) for path, _ in good[:8]]
    return [
        *(Case(f"good {list(body)}", json.dumps(body).encode(), path, pin) for path, body in good),
        *(Case(f"bad {body}", json.dumps(body).encode(), path, pin, status=422) for path, body in bad),
        *(Case("no JSON", b"{", path, pin, status=400) for path, _ in good[:8]),
        *(Case("text", b"x", path, pin, "text/plain", status=415) for path, _ in good[:8]),
        Case("another method", json.dumps(other_method).encode(), "/invocations", pin, status=422),
        Case("a table", table.encode(), "/invocations", pin, "text/csv; charset=utf-8"),
        Case("no table", b"", "/invocations", pin, "text/csv", status=400),
        Case("two versions", json.dumps({"features": ROW}).encode(), "/api/v1/models/b/predictions", pin, status=400),
        *(
            Case("an unknown version", rows_alone, f"/v1/models/{name}:predict", status=404)
            for name in ("v9", "v:9", "%25%C2%AA", "v%3F", "%3A")
        ),
        Case("a version in other characters", rows_alone, "/v1/models/v%31:predict"),
    ]


OTHERS = _others()
