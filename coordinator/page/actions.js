// What can be done from here. Each asks first, and says what will happen; what the cluster answers is shown as it is.

import { key, may, me, post, remove } from "./api.js";
import { el, find } from "./dom.js";

/** A button for what takes `role`; who may not use it can still reach it, and is told why. */
export function control(label, role, about, what, reload) {
  const allowed = may(role);
  const why = allowed ? null : `needs the role ${role}; yours is ${me.role ?? "unknown"}`;
  return el("button", {
    type: "button", "data-focus": about, "aria-disabled": allowed ? null : "true", title: why,
    "aria-label": `${label.replace("…", "")}: ${about}${why ? ` (${why})` : ""}`,
    onclick: () => allowed && ASK[what.kind](what, reload),
  }, label);
}

function ask(title, body, confirm, act) {
  const dialog = find("dialog"), error = el("p", { class: "error", role: "alert" });
  const go = el("button", { type: "submit", id: "confirm" }, confirm);
  const form = el("form", { method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    go.disabled = true;
    error.textContent = "";
    try {
      if ((await act(error)) !== false) dialog.close();
    } catch (problem) {
      error.textContent = problem.message;
    } finally {
      go.disabled = false;
    }
  } }, el("h2", { id: "dialog-title" }, title), body, error,
  el("div", { class: "row" }, go, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.replaceChildren(form);
  dialog.showModal();
}

const paragraph = (text) => el("p", {}, text);

const ASK = {
  transfer({ node }, reload) {
    ask(`Give leadership to ${node}`, paragraph("Requests wait meanwhile; none fails."), "Make leader", async () => {
      await post("/raft/transfer", { to: node });
      reload();
    });
  },
  drain({ worker, held }, reload) {
    const what = held.length ? `${held.length} pipelines move live to other workers: ${held.join(", ")}.` : "It runs no pipeline.";
    ask(`Drain ${worker}`, paragraph(`${what} Nothing is placed there until you uncordon it.`), "Drain", async () => {
      await post(`/workers/${encodeURIComponent(worker)}/drain`);
      reload();
    });
  },
  uncordon({ worker }, reload) {
    ask(`Uncordon ${worker}`, paragraph("Pipelines may be placed there again."), "Uncordon", async () => {
      await post(`/workers/${encodeURIComponent(worker)}/uncordon`);
      reload();
    });
  },
  remove({ worker }, reload) {
    ask(`Delete ${worker}`, paragraph("It is forgotten. If it comes back, it registers anew."), "Delete", async () => {
      await remove(`/workers/${encodeURIComponent(worker)}`);
      reload();
    });
  },
  scale({ group, version, pipeline, replicas }, reload) {
    const path = `/pipeline-groups/${encodeURIComponent(group)}/scale`, seen = { "if-match": `"${version}"` };
    const field = el("input", { id: "replicas", type: "number", min: 1, step: 1, required: true, value: replicas, oninput: foresee });
    const plan = el("div", { id: "plan", "aria-live": "polite" });
    const asked = () => ({ pipeline, replicas: field.valueAsNumber });
    let latest = 0;
    async function foresee() {
      const mine = ++latest;
      const told = field.validity.valid ? await post(`${path}?dry_run=true`, asked(), seen).catch((problem) => problem) : null;
      if (mine === latest) plan.replaceChildren(...foreseen(told));
    }
    const body = el("div", {}, paragraph("Copies beyond the first take their share of the events by the partition key."),
      el("label", { for: "replicas" }, "Replicas"), field, plan);
    ask(`Scale ${group}/${pipeline}`, body, "Scale", async () => {
      await post(`${path}?wait=0`, asked(), seen);
      reload();
    });
    foresee();
  },
  teardown({ group, held }, reload) {
    ask(`Tear down ${group}`, paragraph(`Its ${held} pipelines stop, and their state and checkpoints are gone.`), "Tear down", async () => {
      await remove(`/pipeline-groups/${encodeURIComponent(group)}?wait=0`);
      reload();
    });
  },
};

/** What an update would do, in elements: what it leaves as it is, is not told. */
function foreseen(plan) {
  if (!plan) return [];
  if (plan instanceof Error) return [el("p", { class: "error" }, plan.message)];
  const changes = plan.changes.filter((one) => one.change !== "unchanged");
  if (!changes.length) return [paragraph("Nothing would change.")];
  const place = (one) => one.reason ?? (one.worker_id === null ? "" : `${one.change === "removed" ? "from" : "on"} ${one.worker_id}`);
  return [el("ul", {}, changes.map((one) => el("li", {}, `${one.pipeline_name}: ${one.change} ${place(one)}`)))];
}

export async function rebalance(reload) {
  const plan = await post("/rebalance?dry_run=true").catch((problem) => ({ problem }));
  if (plan.problem) return ask("Rebalance", paragraph(plan.problem.message), "Close", async () => {});
  const moves = plan.moves.map((one) => el("li", {}, `${one.group}/${one.pipeline_name}: ${one.from_worker} to ${one.to_worker}`));
  const body = moves.length ? [paragraph("These pipelines would move live:"), el("ul", {}, moves)] : [paragraph(`Nothing needs to move. ${plan.reason ?? ""}`)];
  ask("Rebalance", el("div", {}, body), moves.length ? "Move" : "Close", async () => {
    if (moves.length) await post("/rebalance");
    reload();
  });
}

export function askKey(done) {
  const field = el("input", { id: "key-field", type: "password", autocomplete: "off", value: key.get() });
  const body = el("div", {}, paragraph("An API key of this cluster. It is kept in this tab until you close it."), el("label", { for: "key-field" }, "Key"), field);
  ask("API key", body, "Use it", async () => {
    key.set(field.value.trim());
    done();
  });
}

export function deploy(reload) {
  const name = el("input", { id: "group-name", autocomplete: "off", placeholder: "the one in the group, if empty" });
  const source = el("textarea", { id: "group-source", rows: 14, spellcheck: "false", required: true });
  const file = el("input", { id: "group-file", type: "file", accept: ".vpl,.json", onchange: async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    source.value = await chosen.text();
    if (!name.value && chosen.name.endsWith(".vpl")) name.value = chosen.name.slice(0, -4).replaceAll(/[^A-Za-z0-9_-]+/g, "-");
  } });
  const found = el("div", { id: "diagnostics", "aria-live": "polite" });
  const body = el("div", {}, el("label", { for: "group-name" }, "Group"), name,
    el("label", { for: "group-source" }, "Program (VPL), or a whole group (JSON)"), source,
    el("label", { for: "group-file" }, "From a file"), file, found);
  ask("Deploy a group", body, "Deploy", async (error) => {
    found.replaceChildren();
    const group = groupOf(source.value, name.value.trim());
    const alone = group.pipelines[0]?.source === source.value;  // the field is the program, not JSON
    if (!(await sound(group, found, alone ? source : null))) {
      error.textContent = "There are mistakes; nothing was deployed.";
      return false;
    }
    try {
      await post("/pipeline-groups?wait=0", group);
    } catch (problem) {
      show(found, alone ? source : null, alone ? source.value : "", problem.diagnostics ?? []);
      throw problem;
    }
    reload();
  });
}

/** The group that was written: as JSON, with its pipelines and routes, or as the program of its only pipeline. */
function groupOf(text, name) {
  let group = { pipelines: [{ name: "main", source: text }] };
  if (text.trimStart().startsWith("{")) {
    try {
      group = JSON.parse(text);
    } catch (problem) {
      throw new Error(`This begins like a group, and is no JSON: ${problem.message}`);
    }
    const pipelines = Array.isArray(group.pipelines) ? group.pipelines : [null];
    const outside = pipelines.find((one) => one?.source_file !== undefined);
    if (outside) throw new Error(`Pipeline ${outside.name} names a file of yours, which this page cannot read: put its text into "source", or use varpulis deploy.`);
    if (pipelines.some((one) => typeof one?.source !== "string")) throw new Error('A group has a list "pipelines", each with "name" and "source", a text.');
  }
  if (name) group.name = name;
  if (!group.name) throw new Error("Give the group a name.");
  return group;
}

/** Whether all programs of the group are; what is wrong is shown, program after program. */
async function sound(group, found, field) {
  let valid = true;
  for (const one of group.pipelines) {
    const checked = await post("/validate", { source: one.source });
    valid = valid && checked.valid;
    if (!field && checked.diagnostics.length) found.append(el("h3", {}, `Pipeline ${one.name ?? "without a name"}`));
    show(found, field, one.source, checked.diagnostics);
  }
  return valid;
}

/** Each mistake below its line; and the cursor at the first one, where the program stands in `field`. */
function show(found, field, text, diagnostics) {
  const lines = text.split("\n");
  found.append(...diagnostics.map((one) => el("div", { class: one.severity === "error" ? "error" : "warn" },
    el("strong", {}, `line ${one.line}, column ${one.column}: ${one.message}`), one.hint ? ` (${one.hint})` : "",
    text ? el("pre", {}, `${lines[one.line - 1] ?? ""}\n${" ".repeat(Math.max(one.column - 1, 0))}^`) : null)));
  const first = diagnostics.find((one) => one.severity === "error");
  if (!first || !field) return;
  const at = lines.slice(0, first.line - 1).reduce((sum, line) => sum + line.length + 1, 0) + first.column - 1;
  field.focus();
  field.setSelectionRange(at, at + 1);
}
