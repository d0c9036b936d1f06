"""Stand-in for Cloud Storage: its JSON API, and its XML API behind V4 signed URLs."""
