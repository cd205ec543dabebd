"""Views of every kind that the transformer serves; `fill.py` writes their values."""

from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Int64, String

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
rows = FileSource(path="data/rows.parquet", timestamp_field="event_timestamp")

profile = FeatureView(
    name="profile",
    entities=[customer],
    ttl=timedelta(hours=1),
    source=rows,
    schema=[
        Field(name="age", dtype=Int64),
        Field(name="income", dtype=Float32),
        Field(name="city", dtype=String),
        Field(name="member", dtype=Bool),
    ],
)
forever = FeatureView(
    name="forever", entities=[customer], ttl=timedelta(0), source=rows, schema=[Field(name="region", dtype=Int64)]
)
sales = FeatureView(
    name="sales",
    entities=[customer, shop],
    ttl=timedelta(minutes=10),
    source=rows,
    schema=[Field(name="sold", dtype=Int64), Field(name="age", dtype=Int64)],
)
lists = FeatureView(
    name="lists", entities=[customer], source=rows, ttl=timedelta(0), schema=[Field(name="many", dtype=Array(Int64))]
)
message = RequestSource(name="message", schema=[Field(name="text", dtype=String)])


@on_demand_feature_view(sources=[message], mode="pandas", schema=[Field(name="length", dtype=Int64)])
def text_view(inputs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if (inputs["text"] == "unmakeable").any():
        raise ValueError("a text of which nothing can be made")
    return pd.DataFrame({"length": inputs["text"].str.len()})


@on_demand_feature_view(
    sources=[profile[["income"]], sales[["age"]], message], mode="pandas", schema=[Field(name="mixed", dtype=Int64)]
)
def mixed_view(inputs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"mixed": inputs["income"].fillna(0).astype(int) + inputs["text"].str.len()})


everything = FeatureService(name="everything", features=[profile, forever, sales[["sold"]], text_view, mixed_view])
clashing = FeatureService(name="clashing", features=[profile, sales])
renamed = FeatureService(name="renamed", features=[profile.with_name("other")])
several = FeatureService(name="several", features=[lists])
