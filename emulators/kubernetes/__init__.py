"""A stand-in for Kubernetes' API server and the controllers that Jobs need."""
