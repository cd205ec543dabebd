"""`python -m shokado.lifecycle.importing`: carries out the import that is given to its standard input."""

from shokado.lifecycle.importing.version import ImportOrder, import_version
from shokado.lifecycle.isolation import carry_out

if __name__ == "__main__":
    carry_out(ImportOrder, lambda order: [import_version(order).stored])
