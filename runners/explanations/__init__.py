"""Explanations: what each feature contributes to a row's score."""
