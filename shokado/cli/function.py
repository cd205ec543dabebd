"""`shokado lambda`: the versions of serving.yaml as a function of AWS Lambda."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from shokado.cli.image_options import Engine
from shokado.lifecycle.packaging.function_order import FunctionOrder, Processor, Runtime
from shokado.lifecycle.refusal import plain_errors

_SHOWN = 6
"""How many parts are shown with their size."""

app = typer.Typer(help="Make a function of AWS Lambda.", no_args_is_help=True, rich_markup_mode="rich")

Config = Annotated[Path | None, typer.Option("--config", help="A serving.yaml; by default configuration/serving.yaml.")]
OnProcessor = Annotated[Processor, typer.Option("--architecture", help="Of the function.")]
WithXgboost = Annotated[
    bool, typer.Option("--xgboost", help="Take XGBoost along, which explanations of its models need: 120 MB more.")
]
PythonRuntime = Annotated[
    Runtime, typer.Option("--runtime", help="Of the function; `here` is this machine's Python, to try it.")
]


@app.callback()
def function() -> None:
    """Make a function of AWS Lambda, which answers API Gateway and function URLs without a server."""


@app.command()
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip.")] = Path("var/lambda/shokado.zip"),
    config: Config = None,
    runtime: PythonRuntime = Runtime.PYTHON_3_13,
    architecture: OnProcessor = Processor.X86_64,
    xgboost: WithXgboost = False,
) -> None:
    """Make a zip of the versions that serving.yaml names, and show its size and how long it takes to start.

    Its handler is lambda_function.lambda_handler. What a function cannot keep, such as ports, is refused with the key.

    Examples:

      shokado lambda build

      shokado lambda build --config var/serving/titanic.yaml --runtime python3.12 --architecture arm64

      shokado lambda build --runtime here --output var/lambda/here.zip
    """
    from shokado.lifecycle.packaging.function_zip import MAX_UNZIPPED_BYTES, build_zip
    from shokado.lifecycle.packaging.imaging import megabytes

    with plain_errors():
        built = build_zip(FunctionOrder(config, runtime, architecture, xgboost), output)
        for part, size in built.parts[:_SHOWN]:
            typer.echo(f"{megabytes(size):>10}  {part}")
        whole = f"{megabytes(built.unzipped_bytes)} of {megabytes(MAX_UNZIPPED_BYTES)} unzipped"
        typer.echo(f"{built.path}  {megabytes(built.bytes)}, {whole}, starts in {built.cold_start}")
        if built.goes_by_s3:
            typer.echo(
                "next: aws s3 cp, then aws lambda create-function --code S3Bucket=..,S3Key=..; see docs/lambda.md"
            )
        else:
            typer.echo("next: aws lambda create-function --zip-file; see docs/lambda.md")


@app.command()
def image(
    config: Config = None,
    runtime: PythonRuntime = Runtime.PYTHON_3_13,
    architecture: OnProcessor = Processor.X86_64,
    xgboost: WithXgboost = False,
    engine: Engine = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", envvar="TAG", help="By default shokado-lambda:<version of this project>."),
    ] = None,
    base_image: Annotated[
        str | None, typer.Option(envvar="BASE_IMAGE", help="By default AWS's image of the runtime.")
    ] = None,
) -> None:
    """Make an image of what a zip would hold, for functions that are larger than a zip may be.

    Examples:

      shokado lambda image --xgboost

      shokado lambda image --engine podman --tag 123456789012.dkr.ecr.eu-west-1.amazonaws.com/shokado:1.4.0
    """
    from shokado.lifecycle.packaging.function_image import build_function_image
    from shokado.lifecycle.packaging.imaging import find_engine, megabytes

    with plain_errors():
        found, order = find_engine(engine), FunctionOrder(config, runtime, architecture, xgboost)
        built = build_function_image(order, found, tag, base_image)
        typer.echo(f"{built.tag}  {megabytes(built.own_bytes)} beyond its base, starts in {built.cold_start}")
        typer.echo(f"next: {found} push, then aws lambda create-function --package-type Image; see docs/lambda.md")


@app.command("try")
def try_(
    event: Annotated[
        Path | None, typer.Argument(help="A file with an event as JSON; by default standard input.")
    ] = None,
    zipped: Annotated[Path, typer.Option("--zip", help="What `shokado lambda build --runtime here` made.")] = Path(
        "var/lambda/shokado.zip"
    ),
    variable: Annotated[
        list[str] | None, typer.Option("--env", help="A variable of the function, as NAME=VALUE; as often as wanted.")
    ] = None,
) -> None:
    """Start a function on this machine as Lambda starts it, with its own packages alone, and show what it answers.

    Examples:

      shokado lambda try event.json

      shokado lambda try event.json --env SHOKADO_STORE=redis://127.0.0.1:6379/0
    """
    from shokado.lifecycle.packaging.function_trial import try_function

    pairs = [pair.partition("=") for pair in variable or ()]
    if any(not separator for _, separator, _ in pairs):
        raise typer.BadParameter("--env is NAME=VALUE.")
    try:
        asked = json.loads(event.read_text(encoding="utf-8") if event is not None else sys.stdin.read())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{event or 'standard input'}: no event: {error}") from None
    with plain_errors():
        answer = try_function(zipped, asked, {name: value for name, _, value in pairs})
        typer.echo(json.dumps(answer, indent=2))
