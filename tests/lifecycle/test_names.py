"""Names that BentoML takes as they are."""

import pytest

from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing import names


@pytest.mark.parametrize("name", ["", "V1", "a b", "../v1", "-v1", "v1-", "latest", "x" * 64])
def test_names_that_bentoml_would_change_or_refuse(name: str) -> None:
    with pytest.raises(LifecycleError):
        names.check_name("version label", name)
