"""The function `autoscale`."""
