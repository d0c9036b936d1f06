"""What the functions share: models, the pure core, schemas, ports, services and adapters."""
