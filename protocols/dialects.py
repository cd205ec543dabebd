"""The table of dialects: every route where predictions are asked for. A new dialect is one file and one line here."""

from protocols.dialect import Dialect
from protocols.native import Native
from protocols.signature import Signature
from protocols.single import Single

DIALECTS: tuple[type[Dialect], ...] = (Native, Single)


def all_dialects(signature: Signature) -> list[Dialect]:
    """One of each, for the model of this signature."""
    return [dialect(signature) for dialect in DIALECTS]
