"""The `varpulis` command: starts clusters, asks them, and shows what they answer; the top floor of the
house.

`catalog` names every command, `settings` every value that can be configured; parser, help, `config show`
and the reference pages are all made from these two tables. `commands/` holds one short module for each
kind of command, `up/` what starts and stops a cluster on one machine.
"""
