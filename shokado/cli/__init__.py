"""The `shokado` command: what is typed, and what is printed; what it does lies in `shokado.lifecycle`."""
