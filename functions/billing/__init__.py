"""The function `billing`."""
