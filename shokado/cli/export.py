"""`shokado models export` and `restore`: verified artefacts to and from a folder or an object store."""

from typing import Annotated

import typer

from shokado.cli.import_options import MaxMemory, MaxSeconds, ModelName
from shokado.lifecycle.isolation import MAX_SECONDS, ProcessLimits
from shokado.lifecycle.refusal import plain_errors

Replace = Annotated[bool, typer.Option("--replace", help="Also where another artefact is there under its tag.")]


def export(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tags of the store, such as customers:v1, or addresses of the registry, such as models:/churn/3 or "
            "models:/churn@champion, which are imported first; by default the versions that serving.yaml names."
        ),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", envvar="EXPORT_TO", help="A folder, or an address such as s3://bucket/models.")
    ] = "var/export",
    label: Annotated[
        str | None, typer.Option("--as", help="Version label of what is imported; by default v and its number.")
    ] = None,
    name: ModelName = None,
    replace: Replace = False,
    max_seconds: MaxSeconds = MAX_SECONDS,
    max_memory: MaxMemory = None,
) -> None:
    """Put verified versions into a folder or an object store, and read them again there.

    Each lies in <to>/<model>/<version>, with SHA256SUMS over all of its files, which is written last: what has none
    is not whole. What is there already is only read again.

    Examples:

      shokado models export customers:v1 customers:v2 --to /mnt/models

      shokado models export models:/churn@champion --to s3://bucket/models
    """
    with plain_errors():
        from shokado.lifecycle.exporting.export_source import configured_tags, found_artefact
        from shokado.lifecycle.exporting.exported_artefact import export_artefact

        if label is not None and len(sources or ()) != 1:
            raise typer.BadParameter("--as goes with a single source.")
        limits = ProcessLimits(max_seconds, max_memory)
        # All of them are there before any is written.
        artefacts = [found_artefact(source, label, name, limits) for source in sources or configured_tags()]
        for artefact in artefacts:
            exported = export_artefact(artefact, to, replace=replace)
            typer.echo(f"{artefact.tag}  {exported.outcome}  {exported.address}")


def restore(
    address: Annotated[
        str, typer.Argument(help="Of one exported version: var/export/customers/v2, s3://bucket/models/customers/v2.")
    ],
    replace: Replace = False,
) -> None:
    """Bring an exported version into the model store of this machine, if all of it is as it was exported.

    Examples:

      shokado models restore s3://bucket/models/customers/v2
    """
    with plain_errors():
        from shokado.lifecycle.exporting.exported_artefact import restore_artefact

        restored = restore_artefact(address, replace=replace)
        typer.echo(f"{restored.artefact.tag}  {restored.outcome}  from {restored.address}")
