"""What layers read on calibration samples, in the model as it was and in the one under way."""
