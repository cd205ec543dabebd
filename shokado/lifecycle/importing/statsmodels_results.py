"""Results of statsmodels: what a fit has found goes in, an estimator with the interface of scikit-learn's comes out.

    predict of the results    its own answers
    coefficients and link     the nodes that answer the same

These are lines and generalized lines: a function of the sum of coefficients, each multiplied with a column, or in a
formula with a product of columns or with 1. Rows are the exogenous variables in the order of the training, and of a
formula the columns that it names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes

_LINES = ("GLS", "GLSAR", "OLS", "QuantReg", "RLM", "WLS")
_LINKS = {
    **dict.fromkeys(_LINES, "Identity"),
    **dict.fromkeys(("GeneralizedPoisson", "NegativeBinomial", "NegativeBinomialP", "Poisson"), "Log"),
    "Logit": "Logit",
    "Probit": "Probit",
}
"""The links of models that have one alone, by the names that statsmodels gives both."""
_LINKS_OF_GLM = ("CLogLog", "Log", "Logit", "Probit")
_PRODUCT = ":"
_ONE = "Intercept"
"""What a formula calls the product of columns, and 1."""

Term = tuple[int, ...]
"""The positions of columns that are multiplied with each other; an empty one is 1."""


class FittedLine(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Results that answer with a value.

    Args:
        names: of the columns that it takes; empty where it goes by their position alone.
        columns: how many there are.
        terms: what each coefficient is multiplied with.
    """

    def __init__(
        self, results: Any = None, names: Sequence[str] = (), columns: int = 0, terms: Sequence[Term] = ()
    ) -> None:
        self.results, self.names, self.columns, self.terms = results, names, columns, terms
        self.n_features_in_ = columns
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return self.results is not None

    def predict(self, rows: Any) -> NDArray[np.float64]:
        """What the results predict: [N]."""
        return np.asarray(self.results.predict(rows), dtype=np.float64)

    @property
    def constants(self) -> dict[int, float]:
        """The columns that were the same in all rows of the training, such as an intercept's 1, and their number."""
        model = self.results.model
        learned = None if hasattr(model, "formula") else getattr(model, "exog", None)
        if learned is None:
            return {}
        rows = np.asarray(learned, dtype=np.float64).reshape(len(learned), -1)
        return {int(at): float(rows[0, at]) for at in np.flatnonzero(np.ptp(rows, axis=0) == 0)}

    def built(self) -> BuiltStep:
        """Nodes that give the same: [N, 1]."""
        weights, offset, products = np.zeros((self.columns, 1)), 0.0, []
        for term, weight in zip(self.terms, np.asarray(self.results.params, dtype=np.float64), strict=False):
            if len(term) > 1:
                products.append((term, weight))
            elif term:
                weights[term[0], 0] += weight
            else:
                offset += weight
        link = _link_of(self.results)

        def build(nodes: Nodes, source: str) -> str:
            parts = [nodes.add("MatMul", [source, nodes.constant(weights)]), nodes.constant(np.array([[offset]]))]
            parts += [_product(nodes, source, term, weight) for term, weight in products]
            return _inverse(nodes, nodes.add("Sum", parts), link)

        return BuiltStep(build, 1)


class FittedProbability(ClassifierMixin, FittedLine):  # type: ignore[misc]  # scikit-learn has no types
    """Results that answer with the probability of 1, where each row of the training was 0 or 1."""

    classes_ = np.array([0, 1])

    def predict_proba(self, rows: Any) -> NDArray[np.float64]:
        """Those of 0 and of 1: [N, 2]."""
        positive = self.predict(rows)
        return np.column_stack([1 - positive, positive])

    def built(self) -> BuiltStep:
        """Nodes that give the same: [N, 2]."""
        of_one = super().built()

        def build(nodes: Nodes, source: str) -> str:
            positive = of_one.build(nodes, source)
            return nodes.add("Concat", [nodes.add("Sub", [nodes.constant(np.ones(1)), positive]), positive], axis=1)

        return BuiltStep(build, 2)


def read(results: Any, signature: Any, uri: str) -> FittedLine:
    """Results as MLflow loads them. Raises `UnsupportedModel` for what has no nodes, and what they might get wrong."""
    model = results.model
    if _link_of(results) is None:
        name = type(model).__name__
        of_it = f"GLM with the link {type(model.family.link).__name__}" if name == "GLM" else name
        raise UnsupportedModel(
            f"{uri} is a {of_it} of statsmodels, which has no conversion: OLS, WLS, GLS, RLM, QuantReg, Logit, Probit, "
            "Poisson, NegativeBinomial, and GLM with the usual links can be imported."
        )
    inputs = None if signature is None else signature.inputs
    said = [] if inputs is None or inputs.is_tensor_spec() else [str(column.name) for column in inputs.inputs]
    if hasattr(model, "formula"):
        names, terms = said, _terms_of_formula(model, said, uri)
    else:
        names, terms = _names_of(model, said, uri), [(at,) for at in range(_width(model, said, uri))]
    fitted: type[FittedLine] = FittedProbability if _gives_probability(model) else FittedLine
    return fitted(results, names, len(said) if hasattr(model, "formula") else len(terms), terms)


def _terms_of_formula(model: Any, said: Sequence[str], uri: str) -> list[Term]:
    """The columns of each coefficient, which is named by them."""
    terms = []
    for name in model.exog_names:
        parts = [] if name == _ONE else name.split(_PRODUCT)
        if unknown := [part for part in parts if part not in said]:
            raise UnsupportedModel(
                f"The formula {model.formula!r} of {uri} has the term {unknown[0]!r}, which is no column of numbers in "
                "its signature: make it a column before statsmodels takes it, and log the signature of these columns."
            )
        terms.append(tuple(said.index(part) for part in parts))
    return terms


def _names_of(model: Any, said: Sequence[str], uri: str) -> list[str]:
    """The names of the training's frame, if it was one; statsmodels itself goes by positions."""
    if not isinstance(getattr(model.data, "orig_exog", None), pd.DataFrame):
        return []
    names = [str(name) for name in model.data.orig_exog.columns]
    if said and said != names and sorted(said) == sorted(names):
        raise UnsupportedModel(
            f"{uri} has the columns {', '.join(said)} in its signature, and was trained on {', '.join(names)}, in "
            "another order, of which statsmodels knows nothing: log it with the signature of its training."
        )
    return names


def _width(model: Any, said: Sequence[str], uri: str) -> int:
    """How many columns it takes."""
    if getattr(model, "exog", None) is not None:
        return int(np.atleast_2d(model.exog).shape[1])
    if said:
        return len(said)
    raise UnsupportedModel(f"{uri} was saved without its data and logged without a signature: log it with one.")


def _gives_probability(model: Any) -> bool:
    kind = type(model).__name__
    is_binomial = kind == "GLM" and type(model.family).__name__ == "Binomial"
    observed = getattr(model, "endog", None)
    if observed is None or not (is_binomial or kind in ("Logit", "Probit")):
        return False
    return np.ndim(observed) == 1 and bool(np.isin(observed, (0, 1)).all())


def _link_of(results: Any) -> str | float | None:
    """The name of its link, or which power of a value it is; None for what is not known."""
    kind = type(results.model).__name__
    if kind != "GLM":
        return _LINKS.get(kind)
    link = results.model.family.link
    name = type(link).__name__
    return float(link.power) if hasattr(link, "power") else name if name in _LINKS_OF_GLM else None


def _product(nodes: Nodes, source: str, term: Term, weight: float) -> str:
    found = nodes.constant(np.array([[weight]]))
    for column in term:
        found = nodes.add("Mul", [found, nodes.add("Gather", [source, nodes.constant(np.array([column]))], axis=1)])
    return found


def _inverse(nodes: Nodes, source: str, link: str | float | None) -> str:
    """The value of which a link makes that number."""
    add, constant = nodes.add, nodes.constant
    match link:
        case "Identity" | 1.0:
            return source
        case "Log":
            return add("Exp", [source])
        case "Logit":
            return add("Sigmoid", [source])
        case "CLogLog":
            return add("Sub", [constant(np.ones(1)), add("Exp", [add("Neg", [add("Exp", [source])])])])
        case "Probit":  # ONNX Runtime has no Erf of float64
            narrow = add("Cast", [add("Div", [source, constant(np.array([np.sqrt(2)]))])], to=TensorProto.FLOAT)
            wide = add("Cast", [add("Erf", [narrow])], to=TensorProto.DOUBLE)
            return add("Mul", [add("Add", [wide, constant(np.ones(1))]), constant(np.array([0.5]))])
    assert isinstance(link, float), link
    return add("Pow", [source, constant(np.array([1 / link]))])
