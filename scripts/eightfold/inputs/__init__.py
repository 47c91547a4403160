"""What every phase after the raw data reads: the manifest and folds as tables, pixels, views and activations."""
