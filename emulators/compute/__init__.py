"""A stand-in for Compute Engine: managed instance groups whose instances are real processes."""
