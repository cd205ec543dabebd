"""What is said about a checkpoint is understood, or refused, before PyTorch is asked.

`tests/frameworks` has what PyTorch makes of it.
"""

from pathlib import Path
from typing import Any

import pytest

from shokado.lifecycle.errors import LifecycleError, SourceNotFound, UnsupportedModel
from shokado.lifecycle.importing.architectures import Architecture
from shokado.lifecycle.importing.checkpoints import Checkpoint, _Content, parsed_arguments
from shokado.lifecycle.importing.output_meaning import OutputMeaning, parsed_classes
from shokado.lifecycle.importing.version import ImportOrder

NET = "def net(input_dim, hidden=2, **others):\n    return [input_dim, hidden, others]\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of weights and one of code, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "own_nets.py").write_text(NET)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("", ()),
        ("no,yes", ("no", "yes")),
        ("0, 1,2", (0, 1, 2)),
        ("-1,1", (-1, 1)),
        ("1,b", ("1", "b")),
        ("01,2", ("01", "2")),
    ],
)
def test_classes_are_numbers_where_all_are(text: str, classes: tuple[int | str, ...]) -> None:
    assert parsed_classes(text) == classes


def test_arguments_are_an_object_of_json() -> None:
    assert parsed_arguments('{"hidden": 64, "last": "relu"}') == {"hidden": 64, "last": "relu"}
    for text in ("hidden=64", "[64]", "64", ""):
        with pytest.raises(UnsupportedModel, match=r"--architecture-args is .*, where JSON such as"):
            parsed_arguments(text)


@pytest.mark.parametrize("name", ["Net", "own_nets:", ":net", "own_nets:a.b", "own_nets.py:"])
def test_an_architecture_has_a_module_and_a_callable(name: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"names no architecture: my_package.nets:Net and nets.py:Net are"):
        Architecture(name)


def test_the_code_that_is_named_must_be_there(files: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"There is no file other.py"):
        Architecture("other.py:net")
    with pytest.raises(UnsupportedModel, match=r"own_nets.py has no callable Net; it has net"):
        Architecture("own_nets.py:Net")._build  # noqa: B018
    (files / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UnsupportedModel, match=r"broken.py cannot be imported: ZeroDivisionError"):
        Architecture("broken.py:net")._build  # noqa: B018


@pytest.mark.parametrize("name", ["own_nets.py:net", "own_nets:net"])
def test_an_architecture_gets_what_it_has_parameters_for(name: str, files: Path) -> None:
    architecture = Architecture(name)
    assert architecture._keywords(3, {"hidden": 7, "epochs": 9, "input_dim": 4}) == {"input_dim": 3, "hidden": 7}
    assert architecture.source == NET.encode()


def test_the_address_changes_with_all_that_decides(files: Path) -> None:
    def uri(arguments: dict[str, Any] | None = None, **said: Any) -> str:
        architecture = Architecture("own_nets.py:net")
        return Checkpoint(Path("model.pt"), architecture, arguments or {}, OutputMeaning(**said)).uri

    addresses = [uri(), uri({"hidden": 3}), uri(task="binary"), uri(classes=("a", "b")), uri(is_logits=True)]
    (files / "own_nets.py").write_text(NET + "\n")
    addresses.append(uri())
    (files / "model.pt").write_bytes(b"others")
    addresses.append(uri())
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("file:model.pt@") for address in addresses)
    assert uri() == uri()


def test_a_checkpoint_is_a_file_with_a_task_that_there_is(files: Path) -> None:
    architecture = Architecture("own_nets.py:net")
    with pytest.raises(SourceNotFound, match=r"There is no file other.pt"):
        Checkpoint(Path("other.pt"), architecture)
    with pytest.raises(UnsupportedModel, match="There is no task 'ranking': binary, multiclass, regression"):
        OutputMeaning("ranking")


def test_an_order_without_a_name_says_the_whole_command(files: Path) -> None:
    checkpoint = Checkpoint(Path("model.pt"), Architecture("own_nets.py:net"))
    with pytest.raises(LifecycleError, match="add --name") as refused:
        ImportOrder(checkpoint.uri, "v1", file=checkpoint)
    assert refused.value.next_command == (
        "shokado models import model.pt --architecture own_nets.py:net --name '<name>' --as v1"
    ).replace("'<name>'", "<name>")


WEIGHTS = {"a.weight": 1}
CONTENTS: dict[str, tuple[Any, str]] = {
    "a list": ([1], 'has list, and no "state_dict"'),
    "weights alone": (WEIGHTS, 'has a.weight, and no "state_dict"'),
    "nothing": ({}, 'has nothing, and no "state_dict"'),
    "no width": ({"state_dict": WEIGHTS, "epoch": 3}, 'has state_dict, epoch, and neither "feature_names" nor an'),
    "a width that is none": ({"state_dict": WEIGHTS, "input_dim": 0}, "how many features a row has"),
    "two widths": ({"state_dict": WEIGHTS, "input_dim": 1, "feature_names": ["a", "b"]}, r'2 "feature_names", and the'),
    "equal names": ({"state_dict": WEIGHTS, "feature_names": ["a", "a"]}, "not all different ones"),
    "numbers for names": ({"state_dict": WEIGHTS, "feature_names": [1, 2]}, "are no texts"),
    "metadata of another kind": ({"state_dict": WEIGHTS, "input_dim": 2, "metadata": [1]}, "are no dictionary"),
}


@pytest.mark.parametrize(("saved", "said"), CONTENTS.values(), ids=CONTENTS)
def test_what_is_missing_in_a_file_is_named(saved: Any, said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        _Content.of(saved)


def test_a_file_says_names_task_and_classes() -> None:
    metadata = {"task": "churn", "classes": ["no", "yes"]}
    content = _Content.of({"state_dict": WEIGHTS, "feature_names": ("a", "b"), "metadata": metadata})
    assert (content.feature_names, content.width, content.task, content.classes) == (("a", "b"), 2, None, ("no", "yes"))
    content = _Content.of({"state_dict": WEIGHTS, "metadata": {"task": "binary", "classes": "no"}}, 2)
    assert (content.feature_names, content.task) == (("f0", "f1"), "binary")
    with pytest.raises(UnsupportedModel, match="no list of labels: say --classes"):
        content.classes  # noqa: B018
