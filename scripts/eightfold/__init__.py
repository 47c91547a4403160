"""Eightfold: labelled images in, a Kaggle submission out, by the fast.ai 2018 lesson-2 recipe."""

import os
import signal
import sys

# MKL reads this at its first product. Without it a product's last bit may depend on the number of threads and on where in
# memory a matrix lies (seen on an AMD processor), and forward passes would not be the same bytes.
os.environ.setdefault("MKL_CBWR", "AUTO")

# A job that a Ctrl-C meets while it still imports has nothing to save: it ends at once, without a traceback. `core.runtime.job`
# then takes the signal over. Snakemake's own process, which has no object `snakemake`, keeps its way.
if hasattr(getattr(sys.modules["__main__"], "snakemake", None), "params"):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
