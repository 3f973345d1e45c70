"""What each command does: functions from an `Invocation` to an exit code, a module for each kind."""
