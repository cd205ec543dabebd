"""Who may ask for what: keys, and the decision that every transport leaves to it."""
