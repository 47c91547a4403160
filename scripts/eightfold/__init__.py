"""Eightfold: labelled images in, a Kaggle submission out, by the fast.ai 2018 lesson-2 recipe."""
