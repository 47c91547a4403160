"""Around the runs: doctor, forecast, disk space, the lock, the limit of GPUs."""
