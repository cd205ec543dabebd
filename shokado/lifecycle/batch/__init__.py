"""Batch prediction: tables go in, scores of every row come out, computed on Ray as a server would compute them."""
