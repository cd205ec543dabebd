"""`python -m shokado.lifecycle.serving`: brings the versions of the order that is given to its standard input."""

from shokado.lifecycle.isolation import carry_out
from shokado.lifecycle.serving.bringing import bring
from shokado.lifecycle.serving.order import ServeOrder

if __name__ == "__main__":
    carry_out(ServeOrder, lambda order: [one.imported.stored for one in bring(order)])
