"""The REST face: every node answers, the leader decides. `app.build` puts it together."""
