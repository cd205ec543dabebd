"""Settings of servers that exist only on paper."""

from typing import Any

from configuration.settings import Settings


def paper_settings(**changes: Any) -> Settings:
    """Two versions of `paper`, v1 with four fifths of the traffic, but for what is to be otherwise."""
    content: dict[str, Any] = {
        "model": "paper",
        "versions": {"v1": {}, "v2": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 80, "v2": 20}}},
    }
    return Settings.model_validate(content | changes)
