"""What tests start and wait for: a real nats-server, certificates, free ports, polling with a deadline."""
