"""What a worker and the transformer say to each other: a batch of entities one way, columns of features the other.

    POST /features   {"entities": {"customer_id": [17, 18]}}: as many values of each name as there are entities
    200              {"features": [{"name", "values", "found", "times", "expires"}, ..]}
    400              {"error": ".."}: what was sent cannot be read, or names an entity that the repository has not

Header `X-Request-Deadline-Ms` says within how many milliseconds the answer is of use.
"""

import msgspec

FEATURES_PATH = "/features"
DEADLINE_HEADER = "X-Request-Deadline-Ms"

FeatureValue = bool | int | float | str | None


class FeatureQuestion(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of entities, which all have the same names."""

    entities: dict[str, list[bool | int | float | str]]


class FeatureColumn(msgspec.Struct, omit_defaults=True):
    """One feature of each entity of a batch, in the batch's order."""

    name: str
    values: list[FeatureValue]
    found: list[bool]
    """Whether the store has the entity, or its value was made of the request; what was found may still be null."""
    times: list[float] | None = None
    """When each value was true, in Unix seconds; None for what is made on demand of the request alone."""
    expires: list[float] | None = None
    """The times from when on each is too old to be used, in Unix seconds; None: never."""


class FeatureAnswer(msgspec.Struct):
    """The features that there are for entities of these names."""

    features: list[FeatureColumn]


class RefusedQuestion(msgspec.Struct):
    """Why a question was not answered."""

    error: str


encode = msgspec.json.Encoder().encode
decode_question = msgspec.json.Decoder(FeatureQuestion).decode
decode_answer = msgspec.json.Decoder(FeatureAnswer).decode
decode_refusal = msgspec.json.Decoder(RefusedQuestion).decode
