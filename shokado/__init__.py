"""Several versions of one model side by side, with live traffic split between them."""

__version__ = "0.1.0"
"""Of the wheel, of the image and its tag, and of what clients are told by every transport."""
