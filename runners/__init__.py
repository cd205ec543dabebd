"""One model version each: its artefact, its engine, its batcher, and the place where it runs."""
