"""What is told about the serving: metrics per version. Called by all, calls none of the other rooms."""
