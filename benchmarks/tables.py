"""The tables of a run of `benchmarks raft`, as Markdown, with the conditions and targets. Pure."""

from collections.abc import Sequence
from typing import Any, Final

ROWS: Final = {
    "ours": "ours, in the leader's process",
    "ours_via_nats": "ours, client outside by NATS",
    "etcd": "etcd, gRPC",
    "etcd_json": "etcd, JSON gateway",
    "jetstream": "JetStream KV R3, `sync_interval: always`",
    "jetstream_default_sync": "JetStream KV R3, default: acknowledged before synced",
}
FAILOVER_ROWS: Final = {
    "ours_rest": "ours, through REST",
    "ours_nodes": "ours, Raft alone",
    "etcd": "etcd, default times (100 ms, 1,000 ms)",
    "etcd_our_times": "etcd, our times (50 ms, 300 ms)",
}


def page(run: dict[str, Any], links: dict[str, str]) -> str:
    """All that is generated; `links` are the figures, by file name."""
    result = measured(run["result"])
    blocks = [conditions(run)]
    if "commit" in result:
        blocks += ["### Writes", *_links(links, "commit-latency.svg", "commit-rate.svg")]
        blocks += [commit(result["commit"])]
    if "failover" in result:
        blocks += ["### A leader that dies", *_links(links, "failover.svg"), failover(result["failover"])]
    if "idle" in result:
        blocks += ["### Doing nothing", idle(result["idle"])]
    if "queue" in result:
        blocks += ["### A leader cut off from its followers", queue(result["queue"])]
    if "compaction" in result:
        blocks += ["### Snapshots beside commits", compaction(result["compaction"])]
    if "transfer" in result:
        blocks += ["### Leadership given away under load", transfer(result["transfer"])]
    if "members" in result:
        blocks += ["### Members changed under load", members(result["members"])]
    if "crosscheck" in result:
        blocks += ["### Our load of etcd beside its own", crosscheck(result["crosscheck"])]
    failed = {part: each["failed"] for part, each in run["result"].items() if part not in result}
    blocks += ["### Targets", targets(result)]
    blocks += [f"`{part}` could not be measured: {why}" for part, why in failed.items()]
    return "\n\n".join(blocks) + "\n"


def measured(result: dict[str, Any]) -> dict[str, Any]:
    """The parts of a run that did not fail."""
    return {part: each for part, each in result.items() if "failed" not in each}


def conditions(run: dict[str, Any]) -> str:
    """What the figures depend on, in a paragraph."""
    known = run["conditions"]
    disk = known["disk"]
    parameters = ", ".join(f"{name}={value}" for name, value in run["parameters"].items()) or "defaults"
    return (
        f"Measured on {known['cores']} cores ({known['processor']}), {known['memory_gb']} GB, kernel "
        f"{known['kernel']}, data on {disk.get('filesystem', 'an unknown file system')} "
        f"({disk.get('device', 'unknown device')}), load average {known['load_average_1m']} before the run; "
        f"Python {known['python']}, {known['nats_server']}, {known['etcd'] or 'no etcd'}. "
        f"Parameters: {parameters}."
    )


def commit(result: dict[str, Any]) -> str:
    """p50, p99 and rate by size and clients, a table for each size, and the floor below it."""
    blocks = []
    sizes = list(next(iter(result["systems"].values())))
    for size in sizes:
        systems = {name: each[size] for name, each in result["systems"].items() if size in each}
        counts = list(next(iter(systems.values())))
        heads = [f"{count} client{'' if count == '1' else 's'}: p50 / p99 ms, writes/s" for count in counts]
        rows = [
            [ROWS.get(name, name), *(_cell(cells[count]) for count in counts)]
            for name, cells in systems.items()
        ]
        floor = result["floor"].get(size)
        if floor:
            halves = f"request {floor['request_p50_ms']}, fdatasync {floor['fdatasync_p50_ms']}"
            only = f"{floor['p50_ms']} / {floor['p99_ms']} ({halves})"
            rows.append(["floor", only, *("" for _ in counts[1:])])
        blocks.append(table([size_name(int(size)), *heads], rows))
    for name, why in {**result["missing"], **result["failures"]}.items():
        blocks.append(f"`{name}`: {why if isinstance(why, str) else '; '.join(why)}")
    rounds, seconds = result["rounds"], result["seconds_per_round"]
    blocks.append(f"Medians of {rounds} rounds of {seconds:g} s for each figure.")
    return "\n\n".join(blocks)


def failover(result: dict[str, Any]) -> str:
    """Median and extremes of each system."""
    rows = [
        [
            f"{what}, {how}",
            gaps[name]["median_s"],
            gaps[name]["min_s"],
            gaps[name]["max_s"],
            gaps[name]["rounds"],
        ]
        for how, gaps in (("killed", result), ("frozen", result.get("frozen", {})))
        for name, what in FAILOVER_ROWS.items()
        if name in gaps
    ]
    return table(["leader lost to the next acknowledged write", "median s", "min", "max", "rounds"], rows)


def idle(result: dict[str, Any]) -> str:
    """Each process."""
    rows = [[name, each["cpu_percent"], each["rss_mb"]] for name, each in result["processes"].items()]
    return table(["process", "percent of a core", "MB resident"], rows)


def queue(result: dict[str, Any]) -> str:
    """Each size of command."""
    sizes = {size: each for size, each in result.items() if size.isdigit()}
    rows = [
        [
            size_name(int(size)),
            ", ".join(f"{count:,} {word}" for word, count in sorted(each["outcomes"].items())),
            each["slowest_s"],
            each["peak_growth_mb"],
        ]
        for size, each in sizes.items()
    ]
    head = f"{result['proposals']:,} proposals at once of"
    return table([head, "end as", "the slowest after s", "memory grows by MB"], rows)


def compaction(result: dict[str, Any]) -> str:
    """Commits beside snapshots and apart from them."""
    rows = [
        [
            what,
            result[what]["commits"],
            result[what]["p50_ms"],
            result[what]["p99_ms"],
            result[what]["longest_ms"],
        ]
        for what in ("during", "apart")
    ]
    head = f"{result['snapshots']} snapshots of {result['snapshot_mb']} MB"
    pauses = (
        f"The longest pause between two commits beside a snapshot was {result['longest_pause_ms']} ms, with "
        f"{result['commits_in_it']} commits under way; apart from them, "
        f"{result['longest_pause_apart_ms']} ms."
    )
    return table([head, "commits", "p50 ms", "p99 ms", "longest ms"], rows) + "\n\n" + pauses


def transfer(result: dict[str, Any]) -> str:
    """The gaps, in a sentence."""
    gaps = result["longest_gap_ms"]
    return (
        f"{result['transfers']} transfers, {result['commits']:,} commits beside them: the longest gaps were "
        f"{', '.join(str(gap) for gap in gaps)} ms; without a transfer the longest was "
        f"{result['longest_gap_without_transfer_ms']} ms. Calls retried: {result['retried_calls']}, failed: "
        f"{result['failed_calls']}."
    )


def members(result: dict[str, Any]) -> str:
    """The gaps at a small state and at a large one."""
    rows = [
        [
            state,
            ", ".join(str(gap) for gap in own["longest_gap_ms"]),
            own["longest_gap_without_change_ms"],
            own["retried_calls"],
            own["most_tries"],
            own["failed_calls"],
        ]
        for state, own in result["states"].items()
    ]
    head = ["state", "gaps ms", "without a change ms", "calls retried", "one call made at most", "failed"]
    return table(head, rows)


def crosscheck(result: dict[str, Any]) -> str:
    """Two rates."""
    if "missing" in result:
        return str(result["missing"]["etcd"])
    rows = [
        ["gRPC load of `benchmarks.raft`", result["our_grpc_load"]["per_second"]],
        ["`etcdctl check perf --load=l`", result["etcdctl_check_perf"]["per_second"] or "not told"],
    ]
    return table(["500 clients, 1,024 B", "writes/s"], rows)


def targets(result: dict[str, Any]) -> str:
    """Every target of the run and whether it was met."""
    rows = []
    for part, figures in result.items():
        for each in figures.get("targets", {}).values():
            met = {True: "met", False: "missed"}.get(each.get("met"), each.get("not_judged", ""))
            rows.append([part, each["target"], each.get("value", ""), each.get("limit", ""), met])
    return table(["part", "target", "value", "limit", ""], rows)


def size_name(size: int) -> str:
    """As people say it."""
    return f"{size // 1024} KB" if size >= 1024 and size % 1024 == 0 else f"{size} B"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in lines
    )


def _cell(figures: dict[str, Any]) -> str:
    return f"{figures['p50_ms']} / {figures['p99_ms']}, {figures['per_second']:,.0f}"


def _links(links: dict[str, str], *names: str) -> list[str]:
    return [links[name] for name in names if name in links]
