"""Who may ask for what: keys, and the decision that every door leaves to it."""
