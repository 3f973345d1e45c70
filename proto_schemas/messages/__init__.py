"""The messages between coordinators and workers, as `wire.md` gives them: a module for each matter."""
