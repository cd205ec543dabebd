"""What a message's text says in numbers: one function, for training and for serving.

Training calls it with a column of texts; the transformer calls it by the on-demand view of `definitions.py`.
"""

import pandas as pd

NUMBERS = ("length", "words", "links", "capitals", "exclamations", "digits")


def numbers_of(texts: pd.Series) -> pd.DataFrame:
    """One row of numbers for each text; `capitals` and `digits` are shares of its characters."""
    length = texts.str.len()
    characters = length.clip(lower=1)
    return pd.DataFrame(
        {
            "length": length.astype("float64"),
            "words": texts.str.split().str.len().astype("float64"),
            "links": texts.str.count(r"https?://|www\.").astype("float64"),
            "capitals": texts.str.count(r"[A-Z]") / characters,
            "exclamations": texts.str.count("!").astype("float64"),
            "digits": texts.str.count(r"\d") / characters,
        }
    )
