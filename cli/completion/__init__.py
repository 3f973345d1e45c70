"""Completion of command lines: scripts for shells, made from the tables that the parser is made from.

`tree` says what may stand where; `posix` (bash, zsh) and `fish` write that down as a script; `words` gives
the names that only the cluster knows, which the scripts ask for through a hidden command.
"""
