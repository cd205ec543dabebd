"""`python -m shokado.lifecycle.verifying`: carries out the order that is given to its standard input."""

from shokado.lifecycle.isolation import carry_out
from shokado.lifecycle.verifying.renewed_receipt import VerifyOrder, verify_again

if __name__ == "__main__":
    carry_out(VerifyOrder, verify_again)
