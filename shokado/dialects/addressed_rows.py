"""One row at addresses that say which version answers: the active one, one of the split, or the one that is named.

In and out: as of `POST /predict`.
"""

from dataclasses import replace

from runners.artefacts.card import Card
from shokado.dialects.dialect import Description
from shokado.dialects.head import RequestHead
from shokado.dialects.single import Single
from shokado.dispatch.request import PredictionRequest


class SplitFeatures(Single):
    """The split decides."""

    path = "/api/v1/ab/predictions"

    def describe(self, card: Card) -> Description:
        return replace(super().describe(card), summary="Score one row with a version of the split")


class ActiveFeatures(Single):
    """The active version answers."""

    path = "/api/v1/predictions"

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        request = super().decode(body, head)
        request.split = False
        return request

    def describe(self, card: Card) -> Description:
        return replace(super().describe(card), summary="Score one row with the active version")


class VersionFeatures(Single):
    """The version or alias in the path answers."""

    path = "/api/v1/models/{version}/predictions"

    def describe(self, card: Card) -> Description:
        return replace(super().describe(card), summary="Score one row with a version")
