"""The demo: a group of two pipelines (see `deploy/demo`) and a generator of numbered trades that feeds it."""
