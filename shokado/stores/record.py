"""Entries and reports as JSON, for stores that keep text."""

import msgspec

from shokado.dispatch.state import decode_state, encode_state
from shokado.stores.store import Action, Entry, WorkerReport


class _EntryRecord(msgspec.Struct):
    state: msgspec.Raw
    at: float
    by: str
    action: Action
    why: str
    id: str


_decode_entry = msgspec.json.Decoder(_EntryRecord).decode
_decode_report = msgspec.json.Decoder(WorkerReport).decode


def encode_entry(entry: Entry) -> bytes:
    state = msgspec.Raw(encode_state(entry.state))
    return msgspec.json.encode(_EntryRecord(state, entry.at, entry.by, entry.action, entry.why, entry.id))


def decode_entry(content: bytes | str) -> Entry:
    """Raises `ValueError` when it cannot be read here; fields that only a newer version knows are passed over."""
    try:
        record = _decode_entry(content)
        return Entry(decode_state(bytes(record.state)), record.at, record.by, record.action, record.why, record.id)
    except Exception as error:
        # What is damaged, or was written by a newer version, can fail in any way.
        raise ValueError(f"an entry of the history cannot be read: {error}") from error


def encode_report(report: WorkerReport) -> bytes:
    return msgspec.json.encode(report)


def decode_report(content: bytes | str) -> WorkerReport:
    """Raises `ValueError` when it is none."""
    return _decode_report(content)
