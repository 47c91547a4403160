"""Training: the loop, the learning-rate finder, the linear stage, and what they are made of."""
