"""Tables of versions in the store: where they came from and how they were verified, and what quantizing one gave."""

from rich.console import Console
from rich.table import Table

from runners.artefacts.artefact import Artefact
from runners.artefacts.card import QuantizationReceipt
from runners.artefacts.integrity import DamagedFile
from runners.artefacts.reference import ReferenceProfile, read_reference

PIPE_COLUMNS = 160
"""Width of a table that goes into a file or a pipe, where nothing has to fit a screen."""


def reference_of(artefact: Artefact) -> ReferenceProfile | DamagedFile | None:
    """The reference of a version, where it has one; or what is wrong with its file."""
    try:
        return read_reference(artefact.folder, artefact.card)
    except DamagedFile as error:
        return error


def _shown(reference: ReferenceProfile | DamagedFile | None) -> str:
    if isinstance(reference, DamagedFile):
        return "damaged"
    return f"{reference.rows:,} rows" if reference else "none"


def show(table: Table) -> None:
    """Print a table, as wide as the terminal, or as `PIPE_COLUMNS`."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(table)


def receipt_table(tag: str, receipt: QuantizationReceipt) -> Table:
    """A quantized version beside its parent."""
    table = Table("", receipt.parent, tag, "", box=None)
    sizes = (receipt.parent_size_bytes, receipt.size_bytes)
    table.add_row("size", *(f"{size:,} bytes" for size in sizes), _gain(receipt.times_smaller, "smaller", "larger"))
    for time in receipt.times:
        rows = f"{time.rows:,} row{'' if time.rows == 1 else 's'}"
        gain = _gain(time.times_faster, "faster", "slower")
        table.add_row(rows, f"{time.parent_us:,.1f} us", f"{time.us:,.1f} us", gain)
    largest, mean = receipt.max_abs_difference, receipt.mean_abs_difference
    compared = f"over {receipt.rows:,} rows: {receipt.rows_from}"
    table.add_row("score difference", f"largest {largest:.2g}", f"mean {mean:.2g}", compared)
    if receipt.same_labels is not None:
        table.add_row("same label", "", f"{receipt.same_labels:.2%}", "of them")
    return table


def _gain(times: float, more: str, less: str) -> str:
    return f"{times:.2f} x {more}" if times >= 1 else f"{1 / times:.2f} x {less}"


def table_of(artefacts: list[Artefact]) -> Table:
    """Versions in the store, one a line."""
    table = Table(
        "version", "task", "inputs", "file, max difference", "size", "source", "reference", "metrics", box=None
    )
    for artefact in artefacts:
        card = artefact.card
        table.add_row(
            artefact.tag,
            card.task,
            str(len(card.features)),
            "\n".join(f"{kind:<4} {receipt.max_abs_difference:.1e}" for kind, receipt in card.verification.items()),
            f"{card.size_bytes / 1024:,.0f} KiB",
            f"{card.source.uri}\n{card.source.framework}"
            + (f"\n{card.quantization} of {card.quantized.parent}" if card.quantized else ""),
            _shown(reference_of(artefact)),
            "\n".join(f"{metric} {value:.3f}" for metric, value in card.metrics.items()),
        )
    return table
