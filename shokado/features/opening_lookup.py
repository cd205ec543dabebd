"""Which lookup of features a worker has, as it is configured."""

from configuration.feature_settings import FeatureSettings
from shokado.features.feature_lookup import FeatureLookup


def open_lookup(settings: FeatureSettings) -> FeatureLookup | None:
    """The lookup of the running event loop; None where no transformer is configured."""
    if settings.url is None:
        return None
    from shokado.features.transformer_calls import TransformerCalls

    return FeatureLookup(settings, TransformerCalls(settings))
