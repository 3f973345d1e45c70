"""The mutation gate: each treatment is taken away in turn, and the harness must find the fault it closes.

A treatment that nobody misses is not needed, and a harness that finds nothing proves nothing. A row names who
finds the fault: a family of seeds, a directed scenario, or both.

    python -m tests.simulation.mutations                plays the gate and prints the table in Markdown
    python -m tests.simulation.mutations --json         the same as JSON, one object to a line
    python -m tests.simulation.mutations --starts 5     measures the seeds needed from five places

The tests play, for each family, the seed that is known to find the fault, and others after it if the product
has changed so much that this one does not any more.
"""

import argparse
import inspect
import json
import logging
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.simulation import test_scenarios_bases as bases
from tests.simulation import test_scenarios_calls as calls
from tests.simulation import test_scenarios_disks as disks
from tests.simulation import test_scenarios_elections as elections
from tests.simulation import test_scenarios_generations as generations
from tests.simulation import test_scenarios_logs as logs
from tests.simulation import treatments
from tests.simulation import treatments_generations as membership
from tests.simulation.play import disks_in_memory, play
from tests.simulation.treatments import Treatment
from tests.simulation.weather import WEATHERS

MOST_SEEDS = 30
"""Tried from each start before a family counts as blind."""
Scenario = Callable[[Path], None]


@dataclass(frozen=True)
class Row:
    """One treatment of docs/raft.md, taken away."""

    number: int
    """Of the treatment; 0: a rule of Raft that is PySyncObj's own work."""
    without: Treatment
    weather: str | None = None
    seed: int = 0
    """Of the weather; known to find the fault."""
    scenario: Scenario | None = None
    rare: bool = False
    """Many seeds are needed: the tests rely on the scenario."""

    @property
    def name(self) -> str:
        return f"{self.number}-{self.without.__name__.replace('_', '-')}"


ROWS = (
    Row(0, treatments.log_comparison, "storm", 1, elections.test_a_longer_log_of_an_older_term_does_not_win),
    Row(
        0,
        treatments.older_terms_wait,
        None,
        0,
        logs.test_an_entry_of_an_older_term_is_not_committed_by_counting,
    ),
    Row(1, treatments.reconciling, "awkward", 0, logs.test_an_acknowledged_entry_survives_an_obsolete_append),
    Row(
        1,
        treatments.acknowledgement_cap,
        "awkward",
        7,
        logs.test_a_heartbeat_behind_the_end_acknowledges_only_what_it_compared,
    ),
    Row(
        2,
        treatments.commit_cap,
        "awkward",
        2,
        logs.test_a_heartbeat_behind_the_end_commits_only_what_it_compared,
    ),
    Row(
        2,
        treatments.chunks_commit_nothing,
        None,
        0,
        disks.test_a_snapshot_chunk_commits_nothing_of_a_stale_log,
    ),
    Row(3, treatments.reply_terms, None, 0, logs.test_an_answer_of_a_former_term_does_not_count),
    Row(3, treatments.replies_once, None, 0, elections.test_a_vote_counts_once_however_often_it_arrives),
    Row(3, treatments.members_only, None, 0, elections.test_a_vote_of_a_stranger_does_not_elect),
    Row(3, treatments.order, "storm", 0),
    Row(3, treatments.refusals_match_nothing, "storm", 14, logs.test_a_refused_probe_is_no_match),
    Row(4, treatments.snapshot_checksum, None, 0, disks.test_a_damaged_snapshot_is_not_acknowledged),
    Row(4, treatments.chunk_numbers, "compacting", 0),
    Row(
        4,
        treatments.install_cap,
        "compacting",
        1,
        disks.test_an_installed_snapshot_acknowledges_no_more_than_it_holds,
    ),
    Row(5, treatments.sync_before_send, "storm", 0, disks.test_what_is_acknowledged_is_on_disk),
    Row(5, treatments.late_acknowledgements, "storm", 0),
    Row(5, treatments.own_sync_first, "storm", 0),
    Row(
        5,
        treatments.durable_vote,
        "split-votes",
        3,
        elections.test_a_vote_is_remembered_through_a_power_cut,
        rare=True,
    ),
    Row(
        5,
        treatments.kept_suffix,
        "storm",
        0,
        disks.test_a_power_cut_at_any_verb_of_a_compaction_loses_nothing,
    ),
    Row(
        5,
        treatments.durable_snapshot_first,
        "storm",
        0,
    ),
    Row(5, treatments.torn_tail, "storm", 0),
    Row(5, treatments.synced_start, "disks", 1),
    Row(6, treatments.typed_entries, None, 0, logs.test_no_byte_from_the_bus_is_read_as_pickle),
    Row(
        7,
        treatments.apply_that_raises,
        "storm",
        0,
        calls.test_a_command_that_breaks_the_machine_is_answered_and_not_tried_again,
    ),
    Row(8, treatments.ended_proposals, None, 0, calls.test_calls_of_a_deposed_leader_end),
    Row(
        9,
        treatments.leader_fallback,
        None,
        0,
        elections.test_a_leader_that_is_cut_off_steps_down_in_bounded_time,
    ),
    Row(
        10,
        treatments.prevote,
        None,
        0,
        elections.test_a_node_that_comes_back_does_not_depose_a_healthy_leader,
    ),
    Row(
        11,
        treatments.one_in_flight,
        None,
        0,
        logs.test_a_backlog_is_caught_up_though_batches_overtake_each_other,
    ),
    Row(11, treatments.bounded_in_flight, None, 0, logs.test_what_is_not_acknowledged_is_bounded_by_bytes),
    Row(11, treatments.matches_never_go_back, None, 0, logs.test_a_late_answer_does_not_take_the_leader_back),
    Row(
        11,
        treatments.news_is_told,
        None,
        0,
        logs.test_a_follower_that_is_sent_nothing_else_hears_of_a_commit_before_the_next_heartbeat,
    ),
    Row(
        12,
        membership.nothing_behind_the_seal,
        "changes",
        0,
        generations.test_what_follows_a_seal_counts_in_the_next_generation_only,
    ),
    Row(12, membership.first_seal_counts, None, 0, generations.test_the_first_of_two_seals_counts),
    Row(
        12,
        membership.commit_ends_at_the_seal,
        None,
        0,
        bases.test_who_comes_into_a_generation_that_has_ended_already_counts_nothing_behind_its_seal,
    ),
    Row(
        12,
        membership.no_snapshot_behind_the_seal,
        None,
        0,
        generations.test_power_lost_at_any_verb_with_a_snapshot_due_at_the_seal,
    ),
    Row(
        12,
        membership.base_is_the_seals_state,
        "changes",
        0,
        bases.test_the_base_of_a_generation_holds_the_state_at_the_seal,
    ),
    Row(12, membership.base_ends_at_the_seal, "changes", 0),
    Row(12, membership.terms_go_on, "changes", 0, bases.test_terms_go_on_in_the_next_generation),
    Row(12, membership.numbers_go_on, None, 0, generations.test_no_frame_has_a_number_twice),
    Row(
        12,
        membership.incarnations_go_on,
        "changes",
        6,
        generations.test_a_process_that_comes_after_a_crash_in_a_switch_is_told_from_the_former,
        rare=True,
    ),
    Row(
        12,
        membership.generations_apart,
        "changes",
        0,
        generations.test_an_append_of_a_former_generation_is_void,
    ),
    Row(
        12,
        membership.lost_disks_withdraw,
        None,
        0,
        generations.test_a_member_that_lost_its_disk_elects_nobody,
    ),
    Row(12, membership.removed_for_good, "changes", 0, generations.test_a_removed_member_stays_away_for_good),
    Row(12, membership.retired_ids, "changes", 1, generations.test_an_id_that_was_removed_never_comes_back),
    Row(
        12,
        membership.seal_waits,
        "changes",
        2,
        generations.test_a_generation_that_could_not_elect_a_leader_is_not_begun,
    ),
    Row(
        12,
        membership.learners_are_silent,
        "changes",
        0,
        generations.test_a_learner_takes_no_part_in_elections,
    ),
    Row(
        12,
        membership.new_files_before_old_ones_go,
        "changes",
        0,
        bases.test_power_lost_before_the_base_is_durable_leaves_the_old_generation,
    ),
    Row(
        12,
        membership.unknown_when_missed,
        None,
        0,
        generations.test_a_leader_that_missed_the_end_knows_nothing_of_its_calls,
    ),
    Row(
        12,
        membership.strangers_prove_themselves,
        "changes",
        11,
        generations.test_who_slept_while_all_it_knew_were_replaced_comes_after,
        rare=True,
    ),
    Row(
        12,
        membership.machine_stands_still,
        "changes",
        1000,
        bases.test_what_is_committed_while_a_base_is_written_has_no_effect,
    ),
    Row(
        12,
        membership.base_before_the_switch,
        "changes",
        0,
        bases.test_power_lost_before_the_base_is_durable_leaves_the_old_generation,
    ),
    Row(
        12,
        membership.removed_linger,
        None,
        0,
        bases.test_who_is_removed_votes_until_somebody_has_a_base,
    ),
    Row(
        12,
        membership.kept_calls_are_made,
        None,
        0,
        bases.test_a_call_that_comes_while_a_base_is_written_is_made_once_after_it,
    ),
    Row(
        12,
        membership.kept_calls_are_made_once,
        "changes",
        0,
        bases.test_a_call_that_comes_while_a_base_is_written_is_made_once_after_it,
    ),
    Row(
        12,
        membership.only_void_calls_are_kept,
        "changes",
        0,
        bases.test_a_call_whose_answer_was_lost_is_not_made_again_in_the_next_generation,
    ),
    Row(13, treatments.read_round, "stale-leaders", 0, calls.test_a_leader_that_was_replaced_answers_no_read),
    Row(
        13,
        treatments.fresh_answers,
        None,
        0,
        calls.test_answers_from_before_the_reader_came_confirm_nothing,
    ),
    Row(
        13,
        treatments.own_term_first,
        "split-votes",
        3,
        calls.test_a_new_leader_knows_what_was_committed_before_it_serves_a_read,
        rare=True,
    ),
)


def seeds_needed(row: Row, start: int, most: int = MOST_SEEDS) -> int | None:
    """How many seeds of the row's weather from `start` on find the fault; None when `most` do not."""
    assert row.weather is not None
    for count in range(most):
        with pytest.MonkeyPatch.context() as patch:
            row.without(patch)
            try:
                play(start + count, WEATHERS[row.weather])
            except Exception:
                return count + 1
    return None


def scenario_finds(row: Row) -> bool:
    """Whether the row's scenario fails without the treatment."""
    assert row.scenario is not None
    with (
        tempfile.TemporaryDirectory(dir=disks_in_memory()) as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        row.without(patch)
        try:
            row.scenario(Path(directory))
        except Exception:
            return True
    return False


def _measured(row: Row, starts: int) -> str:
    if row.weather is None:
        return "-"
    counts = [seeds_needed(row, start * 1_000) for start in range(starts)]
    found = [count for count in counts if count is not None]
    if len(found) < len(counts):
        return f"{len(counts) - len(found)} of {starts} starts: more than {MOST_SEEDS}"
    return f"{statistics.median(found):g} ({min(found)}-{max(found)})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutations")
    parser.add_argument("--starts", type=int, default=3, help="places to begin from in each family (3)")
    parser.add_argument("--json", action="store_true", help="one JSON object to a line")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if not arguments.json:
        print("| | taken away | what then happens | seeds | needed: median (range) | scenario |")
        print("|---|---|---|---|---|---|")
    for row in ROWS:
        cells = _cells(row, arguments.starts)
        print(json.dumps(cells) if arguments.json else f"| {' | '.join(cells.values())} |", flush=True)


def _cells(row: Row, starts: int) -> dict[str, str]:
    """A line of the table; what finds nothing says so."""
    scenario = "-"
    if row.scenario is not None:
        scenario = f"`{row.scenario.__name__}`" if scenario_finds(row) else "NOT FOUND"
    return {
        "number": str(row.number or "Raft"),
        "treatment": row.without.__name__.replace("_", " "),
        "without": " ".join((inspect.getdoc(row.without) or "").split()),
        "seeds": f"`{row.weather}`" if row.weather else "-",
        "needed": _measured(row, starts),
        "scenario": scenario,
    }


if __name__ == "__main__":
    main()
