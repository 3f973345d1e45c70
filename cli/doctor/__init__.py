"""`varpulis doctor`: is this machine fit for what its settings ask of it, and is their cluster well?

Theory. `table` lists the checks; each is a function that looks at one subject and yields findings, a remedy
with each that is not well. `examination` runs them side by side, each in a thread of its own until its
deadline: what hangs (a disk, a server that froze) costs its own check and no other. What they look at is
gathered once, in a `Site`. A check changes nothing but for a file of a few bytes that it writes and removes
where data directories are, needs no cluster, and says `skipped` with the reason where there is nothing to
look at. No finding holds a secret: texts come from values that `Setting.shown` has masked, and from errors
that keep theirs out.
"""
