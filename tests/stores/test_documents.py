"""Documents: small values that workers share, each replaced by whoever knows its last revision."""

import pytest

from shokado.stores.store import Store
from tests.stores.backends import Backend
from tests.stores.processes import in_processes


def test_a_document_is_replaced_by_who_knows_its_revision(store: Store, backend: Backend) -> None:
    assert store.document("a") == (0, None)
    assert store.put_document("a", b"one", 0)
    assert not store.put_document("a", b"other", 0)
    assert backend.open().document("a") == (1, b"one")
    assert backend.open().put_document("a", b"two", 1)
    assert store.document("a") == (2, b"two")
    assert store.document("b") == (0, None)


@pytest.mark.parametrize("content", [b"", b"\0\xff", b'{"a": "\xc3\xbc"}', bytes(2**17)])
def test_any_bytes_come_back(store: Store, content: bytes) -> None:
    assert store.put_document("a", content, 0)
    assert store.document("a") == (1, content)


def test_of_many_that_replace_it_at_once_one_has(backend: Backend) -> None:
    backend.open().put_document("a", b"0", 0)

    def replace(number: int) -> bool:
        return backend.open().put_document("a", str(number).encode(), 1)

    assert sum(in_processes(replace, 4)) == 1
    assert backend.open().document("a")[0] == 2
