"""Identity: whether two artefacts are the same one, by what their cards say.

Every import of the same registered version has the same identity, whatever its label, on every machine. By it workers
agree on what they serve, and answers are kept.
"""

import hashlib
import json

from runners.artefacts.card import Card

COUNTS = {"model", "task", "features", "classes", "source", "files", "quantization"}
COUNTS_UNLESS_DEFAULT = {"positive_from", "predicts", "outputs"}
"""Fields that count only where they are set: artefacts from before there were such rules keep their identity."""
DOES_NOT_COUNT = {
    "format": "how a card is written, not what it says",
    "version": "the label that an import gives",
    "verification": "its last bits depend on the processor",
    "examples": "their last bits depend on the processor",
    "metrics": "the run may have been given more since",
    "asked_by": "says how another server is asked, not what its model answers",
    "own_outputs": "follows from the source",
    "quantized": "its times depend on the machine",
    "own_classes": "follows from the source; artefacts from before it was written down are the same ones",
    "background": "says by which rows scores are explained, not what they are, and may be added or replaced later",
    "reference": "says what rows were like, not what is answered for them, and may be added or replaced later",
}
"""Fields of a card by which two imports of the same version may differ, and why."""


def identity_of(card: Card) -> str:
    """SHA-256, hexadecimal, of what the artefact is: its signature, its rules, its source and its files' digests."""
    identity = card.model_dump(mode="json", include=COUNTS)
    identity |= card.model_dump(mode="json", include=COUNTS_UNLESS_DEFAULT, exclude_defaults=True)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
