"""Which codes the source raises: what is handed to each class and function that takes a `code`."""

import ast
import re
from collections.abc import Iterator, Mapping

from configuration.settings import Placement
from shokado.experiments.feedback_collector import FeedbackStatus
from tests.support.server import ROOT

_CLIENTS = ("client", "lifecycle", "cli")
"""Folders that ask a server, and answer nobody."""
_GATEWAY = ROOT / "k8s" / "gateway" / "nginx.conf.template"
_MADE = {
    "f'unknown_{error.what}'": {"unknown_version", "unknown_environment"},
    "f'{placement}_placement'": {f"{placement}_placement" for placement in Placement} - {"embedded_placement"},
    "f'feedback_{ruling.status}'": {f"feedback_{status}" for status in FeedbackStatus}
    - {"feedback_accepted", "feedback_duplicate"},
}
"""Codes that are put together, by how."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def served_source() -> dict[str, str]:
    """Every file of what serves: text by path."""
    paths = [*(ROOT / "runners").rglob("*.py"), *(ROOT / "shokado").rglob("*.py")]
    named = {path.relative_to(ROOT): path for path in paths}
    return {str(name): path.read_text() for name, path in named.items() if name.parts[1] not in _CLIENTS}


def raised_codes(source: Mapping[str, str]) -> set[str]:
    """The codes. Raises `ValueError` for one that only runs would tell."""
    trees = {path: ast.parse(text, path) for path, text in source.items()}
    takers = dict(pair for path, tree in trees.items() for pair in _takers(path, tree))
    _inherit(takers, [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)])
    return {code for path, tree in trees.items() for code in _raised(path, tree, takers)}


def gateway_codes() -> dict[str, int]:
    """The codes that the NGINX gateway answers by itself, with their statuses."""
    answers = re.findall(r"return (\d{3}) '\{\"error\":\{\"code\":\"(\w+)\"", _GATEWAY.read_text())
    return {code: int(status) for status, code in answers}


def _known(path: str, name: str) -> str:
    """What the name is known as: private ones only in their own file."""
    return f"{path}:{name}" if name.startswith("_") else name


def _takers(path: str, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name of what takes a code, and at which place."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            names = [argument.arg for argument in node.args.args if argument.arg != "self"]
            name = node.name
        elif isinstance(node, ast.ClassDef):
            making = next((one for one in node.body if isinstance(one, Function) and one.name == "__init__"), None)
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
            # What processes exit with are numbers.
            names = ["" if ast.unparse(one.annotation) == "int" else ast.unparse(one.target) for one in fields]
            if making is not None:
                names = [argument.arg for argument in making.args.args[1:]]
            name = node.name
        else:
            continue
        if "code" in names and name != "__init__":
            yield _known(path, name), names.index("code")


def _inherit(takers: dict[str, int], classes: list[ast.ClassDef]) -> None:
    """Let subclasses take what their bases take, down to the last."""
    count = 0
    while count < len(takers):
        count = len(takers)
        for node in classes:
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in takers:
                    takers.setdefault(node.name, takers[base.id])


def _raised(path: str, tree: ast.AST, takers: Mapping[str, int]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = takers.get(_known(path, node.func.id))
            named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if place is not None and (given := [*node.args[place : place + 1], *named]):
                yield from _codes(path, given[0])


def _codes(path: str, node: ast.expr) -> set[str]:
    match node:
        case ast.Constant(value=str(code)):
            return {code}
        case ast.IfExp():
            return _codes(path, node.body) | _codes(path, node.orelse)
        case ast.JoinedStr() if ast.unparse(node) in _MADE:
            return _MADE[ast.unparse(node)]
        case ast.Name(id="code") | ast.Attribute(attr="code"):
            # Handed on from what takes one itself.
            return set()
    raise ValueError(f"{path}:{node.lineno}: which code {ast.unparse(node)} is cannot be read off the source")
