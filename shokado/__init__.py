"""Several versions of one model side by side, with live traffic split between them."""

__version__ = "0.1.0"
"""The version of the wheel, of the image and its tag, and the one that clients are told by every transport."""
