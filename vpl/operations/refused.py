"""What is refused by name, and what to use instead."""

UNAVAILABLE = {
    "pattern": (
        "`.pattern` is not part of this language",
        "write `pattern P = SEQ(...)`, and `P` as the source",
    ),
    "emit as": ("`.emit as` is not available in this version", "name the stream as the type it should make"),
    "tap": ("`.tap` is not available in this version", "use `.log(...)` or `.print(...)`"),
}
FOREIGN = {
    "process": ("`.process` is not part of this language", "use `.where`, `.select` and `.aggregate`"),
    "context": (
        "`.context` is not part of this language",
        "deploy a pipeline of its own; workers run side by side",
    ),
    "concurrent": ("`.concurrent` is not part of this language", "give the pipeline `replicas`"),
    "enrich": (
        "`.enrich` is not part of this language",
        "put the data into the events before they come here",
    ),
    "forecast": ("`.forecast` is not part of this language", "use `ema(...)` over a window"),
    "trend_aggregate": (
        "`.trend_aggregate` is not part of this language",
        "use `.aggregate` with first() and last()",
    ),
    "score": ("`.score` is not part of this language", "compute the score with an expression in `.emit`"),
}
COMBINATORS = {
    "sequence": ("`sequence(...)` is not part of this language", "write `A as a -> B as b .within(5m)`"),
}
