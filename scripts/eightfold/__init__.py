"""Eightfold: labelled images in, a Kaggle submission out, by the fast.ai 2018 lesson-2 recipe."""

import os

# MKL reads this at its first product. Without it a product's last bit may depend on the number of threads and on where in
# memory a matrix lies (seen on an AMD processor), and forward passes would not be the same bytes.
os.environ.setdefault("MKL_CBWR", "AUTO")
