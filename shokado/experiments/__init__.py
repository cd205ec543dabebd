"""Which version is better: prediction ids, feedback, the figures per version, and the strategy that follows them."""
