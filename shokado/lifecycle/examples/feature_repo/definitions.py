"""Features of customers, by customer, and numbers of messages, made when they are asked for.

Names of features are those that models take; a feature service is what one model takes.
"""

from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
rows = FileSource(path="data/customers.parquet", timestamp_field="event_timestamp")

# What changes slowly is of use for longer.
profile = FeatureView(
    name="profile",
    entities=[customer],
    ttl=timedelta(days=30),
    source=rows,
    schema=[Field(name=name, dtype=Int64) for name in ("age", "region", "category_preference", "is_premium")],
)
activity = FeatureView(
    name="activity",
    entities=[customer],
    ttl=timedelta(days=2),
    source=rows,
    schema=[
        *(Field(name=name, dtype=Int64) for name in ("income", "credit_score", "num_purchases", "num_returns")),
        Field(name="account_age_days", dtype=Int64),
        Field(name="avg_transaction", dtype=Float64),
    ],
)
customers = FeatureService(name="customers", features=[profile, activity])

message = RequestSource(name="message", schema=[Field(name="text", dtype=String)])


@on_demand_feature_view(
    sources=[message],
    mode="pandas",
    schema=[
        Field(name=name, dtype=Float64) for name in ("length", "words", "links", "capitals", "exclamations", "digits")
    ],
)
def message_view(inputs: pd.DataFrame) -> pd.DataFrame:
    # Feast keeps this function apart from its module: what it needs is imported within.
    from message_numbers import numbers_of

    return numbers_of(inputs["text"])


messages = FeatureService(name="messages", features=[message_view])
