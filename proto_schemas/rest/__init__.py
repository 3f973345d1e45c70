"""Bodies of the coordinators' REST API, shared by the server and the CLI: a module for each noun."""
