"""Which signature a model has: its card and the limits go in, what packs and explains its rows comes out."""

from configuration.settings import LimitSettings
from runners.artefacts.card import Card
from shokado.dialects.signature import Signature
from shokado.dialects.text_signature import TextSignature


def signature_of(card: Card, limits: LimitSettings) -> Signature:
    """The signature of the card's model."""
    if card.takes_text:
        return TextSignature(card.feature_names[0], limits.max_rows, limits.max_text_characters)
    booleans = [feature.name for feature in card.features if feature.type == "boolean"]
    return Signature(card.feature_names, limits.max_rows, booleans)
