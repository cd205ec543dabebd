"""An artefact of the store by its tag, as commands name it."""

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact, ArtefactDamaged
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import names


def stored_artefact(tag: str) -> Artefact:
    """The artefact, whose model files are intact. Raises `LifecycleError` where the store has none of the kind."""
    model, _, version = tag.partition(":")
    names.check_name("model name", model)
    names.check_name("version label", version)
    try:
        artefact = repository.look_up(model, version)
    except ArtefactDamaged as error:
        raise LifecycleError(f"{error}.", "shokado models list") from error
    if artefact is None:
        raise LifecycleError(f"The store has no {tag}.", "shokado models list")
    return artefact
