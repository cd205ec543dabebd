"""`python -m shokado.lifecycle.examples`: prepares the versions of the order that is given to its standard input."""

from shokado.lifecycle.examples.preparing import PrepareOrder, prepare_all
from shokado.lifecycle.isolation import carry_out

if __name__ == "__main__":
    carry_out(PrepareOrder, prepare_all)
