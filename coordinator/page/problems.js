// What is wrong now, worst first: each with its cause and what to do.

const SILENT_MS = 3000;
const LAGGING = 1000;

/** `raft`: as this node sees it; `leaders`: as the leader does, who alone hears all the others. */
export function problems({ raft, leaders, workers, groups }) {
  const found = [];
  const bad = (text, remedy) => found.push({ kind: "bad", text, remedy });
  const warn = (text, remedy) => found.push({ kind: "warn", text, remedy });
  if (raft) {
    if (raft.failure) bad(`This coordinator has withdrawn: ${raft.failure}`, "Look at another one, and mend this one.");
    if (!raft.leader_id) bad("No coordinator leads: nothing is decided now.", "Do a majority of the coordinators run, and reach NATS?");
    else if (!leaders) warn("The leader does not say whom it hears.", "Whether all coordinators run is not known from here.");
    for (const node of leaders?.nodes ?? []) {
      if (node.id !== leaders.this_node_id && (node.last_contact_ms === null || node.last_contact_ms > SILENT_MS))
        bad(`Coordinator ${node.id} is silent.`, "Start it again; without another one there is no majority to lose.");
      if (node.lag > LAGGING) warn(`Coordinator ${node.id} lags by ${node.lag} entries.`, "Its disk or network is slow.");
    }
  }
  for (const worker of workers ?? []) {
    if (worker.status === "unhealthy") bad(`Worker ${worker.id} is not heard any more.`, "Its pipelines are placed elsewhere. Start it again, or delete it.");
  }
  for (const group of groups ?? []) {
    for (const one of group.placements) {
      const name = `${group.name}/${one.pipeline_name}`;
      if (one.status === "failed") bad(`Pipeline ${name} failed: ${one.reason ?? "no reason was given"}`, "Mend the program, and deploy another version.");
      else if (one.status === "pending") warn(`Pipeline ${name} runs nowhere: ${one.reason ?? "it waits for a worker"}`, "Start a worker that fits, or relax a constraint.");
    }
    if (group.update?.status === "rolled_back") warn(`Group ${group.name} was rolled back: ${group.update.reason ?? ""}`, "The version before runs.");
  }
  const rank = { bad: 0, warn: 1 };
  return found.sort((a, b) => rank[a.kind] - rank[b.kind]);
}
