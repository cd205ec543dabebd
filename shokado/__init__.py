"""Several versions of one model side by side, with live traffic split between them."""
