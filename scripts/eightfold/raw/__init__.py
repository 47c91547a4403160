"""Raw data: what makes the manifest, the folds and the pixels out of whatever a user has."""
