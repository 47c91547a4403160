"""Networks: trunks, heads, the pass through them, and what their logits score."""
