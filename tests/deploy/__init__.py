"""What `deploy/` holds, taken at its word: its files are read, and what they start is started, without a
container engine, a service manager or a Kubernetes."""
