// The page: load the state, follow the stream, show both; say so when this coordinator cannot be reached.

import { askKey, control, deploy, rebalance } from "./actions.js";
import { follow, get, may, me, Refused, whoami } from "./api.js";
import { el, find } from "./dom.js";
import { render } from "./view.js";

const POLL_MS = 2000, SETTLE_MS = 150, LONGEST_PAUSE_MS = 5000;
const state = { events: [] };
let newest = 0, pending = null, known = [];

const draw = () => render(state, (label, role, about, what) => control(label, role, about, what, load));

async function load() {
  try {
    const stale = "consistency=stale";
    const [topology, raft] = await Promise.all([get(`/topology?${stale}`), get("/raft")]);
    state.workers = topology.workers;
    state.groups = topology.groups;
    state.raft = raft;
    known = raft.nodes.filter((node) => node.url && node.id !== raft.this_node_id);
    connected(`live, from ${raft.this_node_id}`);
    draw();
  } catch (problem) {
    if (problem instanceof Refused && problem.status === 401) needKey();
    else if (!(problem instanceof Refused)) cutOff();
  }
}

function soon() {
  pending ??= setTimeout(() => {
    pending = null;
    load();
  }, SETTLE_MS);
}

function connected(text) {
  const line = find("connection");
  line.className = "";
  if (line.textContent !== text) line.textContent = text;
}

function cutOff() {
  const line = find("connection");
  line.className = "cut";
  line.replaceChildren("This coordinator cannot be reached; trying again. Others: ",
    ...known.flatMap((node) => [el("a", { href: node.url, rel: "noreferrer" }, node.id), " "]));
}

function needKey() {
  find("connection").textContent = "This cluster asks for an API key.";
  if (!find("dialog").open) askKey(start);
}

async function loadTrail() {
  const told = await get("/events?limit=60&consistency=stale");
  state.events = told.events;
  newest = told.newest;
}

function take(kind, data) {
  if (kind === "summary") state.summary = data;
  if (kind === "change") {
    newest = data.seq;
    state.events = [...state.events.slice(-200), { ...data, fresh: true }];
    soon();
  }
  if (kind === "reset") loadTrail().then(draw);
  draw();
}

let following = new AbortController();

async function stream() {
  following.abort();
  const mine = (following = new AbortController());
  for (let pause = 250; !mine.signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    try {
      await follow(newest, (kind, data) => {
        pause = 250;
        take(kind, data);
      }, mine.signal);
    } catch (problem) {
      if (mine.signal.aborted) return;
      if (problem instanceof Refused && problem.status === 401) return needKey();
      if (!(problem instanceof Refused)) cutOff();
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}

function allow(id, role, act) {
  const button = find(id);
  const allowed = may(role);
  button.setAttribute("aria-disabled", String(!allowed));
  button.title = allowed ? "" : `needs the role ${role}; yours is ${me.role}`;
  button.onclick = () => allowed && act();
}

async function start() {
  try {
    await whoami();
  } catch (problem) {
    if (problem instanceof Refused && problem.status === 401) return needKey();
    cutOff();
    return void setTimeout(start, 1000);
  }
  allow("deploy", "operator", () => deploy(load));
  allow("rebalance", "operator", () => rebalance(load));
  find("key").hidden = !me.keysRequired;
  await loadTrail().catch(() => {});
  await load();
  stream();
}

function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
}

find("theme").onclick = () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  localStorage.setItem("varpulis-theme", dark ? "light" : "dark");
  theme(localStorage.getItem("varpulis-theme"));
};
find("key").onclick = () => askKey(start);
theme(localStorage.getItem("varpulis-theme"));
setInterval(load, POLL_MS);
start();
