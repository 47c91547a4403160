"""The config: its schema, its contradictions, and the plan of a run that follows from it. No module here imports torch."""
