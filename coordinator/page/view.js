// What is shown of the state: problems, numbers, nodes, workers, groups, the trail. Pure: state in, elements in.

import { cell, el, find, replace, table } from "./dom.js";
import { graph } from "./graph.js";
import { problems } from "./problems.js";

const SILENT_MS = 2500;
const WORDS = { ready: "good", running: "good", leader: "good", failed: "bad", unhealthy: "bad", pending: "warn", draining: "warn", deploying: "warn" };

export const word = (text) => el("span", { class: WORDS[text] ?? null }, text);

/** When somebody was heard: a figure that changed all the time would say no more than "now". */
const heard = (ms) => (ms === null || ms === undefined ? "" : ms < SILENT_MS ? "now" : `${Math.round(ms / 1000)} s ago`);

/** `control(label, role, about, act)` makes a button that the reader's role may use, or says why not. */
export function render(state, control) {
  find("cluster").textContent = state.summary?.cluster_id ?? "";
  replace(find("problems"), shown(problems(state)));
  replace(find("numbers"), numbers(state));
  replace(find("nodes"), nodes(state, control));
  replace(find("workers"), workers(state, control));
  replace(find("groups"), groups(state, control));
  replace(find("trail"), trail(state));
}

function shown(found) {
  if (!found.length) return [el("li", { class: "good" }, "All is well.")];
  return found.map((one) => el("li", { class: one.kind }, el("strong", {}, one.text), " ", el("span", { class: "remedy" }, one.remedy)));
}

function numbers({ summary, raft, workers = [], groups = [] }) {
  const pairs = [
    ["leader", raft?.leader_id ?? "none"],
    ["term", raft?.term ?? "?"],
    ["workers ready", `${workers.filter((one) => one.status === "ready").length} of ${workers.length}`],
    ["groups", groups.length],
    ["pipelines running", groups.flatMap((group) => group.placements).filter((one) => one.status === "running").length],
    ["events per second", Math.round(summary?.events_per_sec ?? 0).toLocaleString("en")],
  ];
  return pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { id: `n-${name.replaceAll(" ", "-")}` }, String(value))));
}

function nodes({ raft, leaders }, control) {
  if (!raft) return el("p", { class: "soft" }, "not known yet");
  const rows = (leaders ?? raft).nodes.map((node) => el("tr", {},
    cell(node.url && node.id !== raft.this_node_id ? el("a", { href: node.url, rel: "noreferrer" }, node.id) : node.id),
    cell(word(node.role)), cell(node.lag ?? "", "n"), cell(heard(node.last_contact_ms), "n"),
    cell(node.id === raft.this_node_id ? "you are here" : "", "soft"),
    cell(node.role === "leader" ? "" : control("Make leader…", "admin", `transfer ${node.id}`, { kind: "transfer", node: node.id }))));
  return table(["node", "role", { text: "lag", number: true }, { text: "heard", number: true }, "", ""], rows, "coordinators");
}

function workers({ workers: all = [] }, control) {
  if (!all.length) return el("p", { class: "soft" }, "No worker has registered. Start one: varpulis worker --nats …");
  const rows = all.map((one) => el("tr", {},
    cell(one.id), cell(word(one.cordoned ? "cordoned" : one.status)),
    cell([el("meter", { min: 0, max: one.max_pipelines || 1, value: one.assigned_pipelines.length, "aria-label": `load of ${one.id}` }), ` ${one.assigned_pipelines.length} of ${one.max_pipelines}`]),
    cell(one.assigned_pipelines.join(", ")), cell(heard(one.last_heartbeat_age_ms), "n"),
    cell(one.status === "unhealthy"
      ? control("Delete…", "admin", `delete ${one.id}`, { kind: "remove", worker: one.id })
      : one.cordoned
      ? control("Uncordon", "operator", `uncordon ${one.id}`, { kind: "uncordon", worker: one.id })
      : control("Drain…", "operator", `drain ${one.id}`, { kind: "drain", worker: one.id, held: one.assigned_pipelines }))));
  return table(["worker", "status", "load", "runs", { text: "heard", number: true }, ""], rows, "workers");
}

function groups({ groups: all = [] }, control) {
  if (!all.length) return el("p", { class: "soft" }, "No group is deployed.");
  return all.map((group) => {
    const rows = group.placements.map((one) => el("tr", {},
      cell(one.pipeline_name), cell(word(one.status)), cell(one.worker_id ?? ""), cell(one.epoch, "n"), cell(one.reason ?? "", "soft"),
      cell(one.instance === 0 ? scale(group, one.instance_of, control) : "")));
    return el("article", { "aria-label": `group ${group.name}` },
      el("h3", {}, group.name, " ", word(group.status), el("span", { class: "soft" }, ` version ${group.version}, ${group.delivery.replaceAll("_", " ")} `),
        control("Tear down…", "admin", `tear down ${group.name}`, { kind: "teardown", group: group.name, held: rows.length })),
      graph(group),
      table(["pipeline", "status", "worker", { text: "epoch", number: true }, "reason", ""], rows, `pipelines of ${group.name}`));
  });
}

function scale(group, pipeline, control) {
  const replicas = group.placements.filter((one) => one.instance_of === pipeline).length;
  return control("Scale…", "operator", `scale ${group.name}/${pipeline}`, { kind: "scale", group: group.name, version: group.version, pipeline, replicas });
}

function trail({ events = [] }) {
  const rows = events.slice(-60).reverse().map((one) => el("tr", { class: one.fresh ? "fresh" : null },
    cell(new Date(one.at).toLocaleTimeString("en-GB")), cell(one.by), cell(one.what.replaceAll("_", " ")), cell(one.about), cell(one.why, "soft")));
  return table(["time", "by", "what", "about", "why"], rows, "trail of decisions");
}
