"""What runs where Feast is: the transformer that a server asks, materialization, and the check for skew.

Nothing of Feast is imported before it is needed, and nothing of it is needed by a server: `make features` makes an
environment of its own.
"""
