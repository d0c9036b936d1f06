"""A stand-in for Nomad's servers: the HTTP API, batch scheduling, and the nodes' own calls."""
