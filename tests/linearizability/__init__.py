"""Is what the clients saw the behaviour of one object, touched by one client at a time?

    history      what clients did and saw: `Operation`, `Recorder`, `save`, `load`
    model        what an object may answer: `Register`, `AppendOnlyList`, or one of your own
    checker      `check`: the verdict on a history
    search       the search for an order of one key's operations; `events` is the history as it reads it
    parts        where to look when the search as a whole takes too long
    shrink       from thousands of operations at fault to the few that show it; `explain` draws them
    simulated    histories of a real object, and `brute_force` the definition, which test the checker

`python -m tests.linearizability FILE` gives the verdict on a saved history.
"""
