"""Dense models: what keeps rows of a sparse training, such as neighbours behind one-hot columns, with arrays."""

import copy
from typing import Any

from scipy.sparse import issparse
from sklearn.pipeline import Pipeline


def dense(model: Any) -> Any:
    """The same model or step, or pipeline of them, without sparse matrices, which no conversion takes."""
    if isinstance(model, Pipeline):
        steps = [(name, dense(step)) for name, step in model.steps]
        is_same = all(step is given for (_, step), (_, given) in zip(steps, model.steps, strict=True))
        return model if is_same else Pipeline(steps)
    arrays = {name: value.toarray() for name, value in getattr(model, "__dict__", {}).items() if issparse(value)}
    if not arrays:
        return model
    changed = copy.copy(model)
    vars(changed).update(arrays)
    return changed
