"""What the conversion of a text model needs besides that of any: a fitted model goes in, one for skl2onnx comes out.

skl2onnx carries a vectorizer over as a chain of ONNX operators (lower case, tokenizer, counts, weights), but not every
one: what the chain cannot do is refused here by name, for the converter either says less or converts it wrongly.
"""

import copy
from collections.abc import Iterator
from typing import Any

from sklearn.feature_extraction.text import CountVectorizer

from shokado.lifecycle.errors import UnsupportedModel

LOCALE = "C.UTF-8"
"""The locale of lower case beyond ASCII. ONNX Runtime's default, en_US.UTF-8, is missing in slim containers."""

_PATTERNS = {
    r"(?u)\b\w\w+\b": r"[\pL\pN_][\pL\pN_]+",
    r"(?u)\b\w+\b": r"[\pL\pN_]+",
    r"\b\w\w+\b": r"[\pL\pN_][\pL\pN_]+",
    r"\b\w+\b": r"[\pL\pN_]+",
    r"\w+": r"[\pL\pN_]+",
}
"""Token patterns that say the same with the tokenizer's own regular expressions (RE2), whose `\\w` knows ASCII only."""


def vectorizers_of(model: Any) -> Iterator[CountVectorizer]:
    """Every fitted vectorizer with a vocabulary (`CountVectorizer`, `TfidfVectorizer`) within a model."""
    if isinstance(model, CountVectorizer):
        yield model
        return
    parts = getattr(model, "transformers_", None) or getattr(model, "transformer_list", None)
    for _, part, *_ in parts or getattr(model, "steps", None) or ():
        yield from vectorizers_of(part)


def with_split_terms(model: Any) -> Any:
    """The model, or a copy whose vectorizers know their terms as tuples of words, where it has any.

    Left with `free money`, the converter guesses where to split it, and takes it for one word when `money` alone is not
    in the vocabulary, as happens with max_features.
    """
    if not any(vectorizers_of(model)):
        return model
    model = copy.deepcopy(model)
    for vectorizer in vectorizers_of(model):
        vectorizer.vocabulary_ = {tuple(term.split(" ")): column for term, column in vectorizer.vocabulary_.items()}
    return model


def converter_options(model: Any) -> dict[int, dict[str, str]]:
    """skl2onnx's options for each vectorizer of the model. Raises `UnsupportedModel` where one has no conversion."""
    return {id(vectorizer): _options(vectorizer) for vectorizer in vectorizers_of(model)}


def _options(vectorizer: CountVectorizer) -> dict[str, str]:
    if reason := _why_not(vectorizer):
        raise UnsupportedModel(
            f"Its {type(vectorizer).__name__} has {reason}, which has no conversion to ONNX. Convertible are "
            "vectorizers of words (analyzer='word') with a token_pattern, lowercase, ngram_range and the weights of "
            "TF-IDF, without strip_accents, sublinear_tf, and without stop_words unless ngram_range is (1, 1)."
        )
    pattern = vectorizer.token_pattern
    return {"tokenexp": _PATTERNS.get(pattern, pattern), "locale": LOCALE}


def _why_not(vectorizer: CountVectorizer) -> str | None:
    """The first setting of a vectorizer that ONNX Runtime's operators cannot follow."""
    if vectorizer.analyzer != "word":
        # The characters themselves would be no trouble, but scikit-learn makes one blank of several before it cuts.
        return f"analyzer={vectorizer.analyzer!r}"
    for name in ("preprocessor", "tokenizer", "strip_accents"):
        if (value := getattr(vectorizer, name)) is not None:
            return f"{name}={getattr(value, '__name__', value)!r}"
    if getattr(vectorizer, "sublinear_tf", False):
        return "sublinear_tf=True"
    if vectorizer.stop_words and tuple(vectorizer.ngram_range) != (1, 1):
        return "stop_words with ngram_range beyond (1, 1)"
    return None
