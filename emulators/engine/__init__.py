"""What every stand-in shares: an HTTP server, durable records, watches, faults, processes, placement."""
