"""Files, digests, tensors on disk, devices, random numbers, logs and wording: what every phase uses."""
