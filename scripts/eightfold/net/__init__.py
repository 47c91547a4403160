"""Networks: trunks, the weights they start from, heads, the pass through them, and what their logits score."""
