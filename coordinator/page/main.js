// The page: load the state, follow the stream, show both; say so when this coordinator cannot be reached.

import { askKey, control, deploy, rebalance } from "./actions.js";
import { follow, get, may, me, Refused, whoami } from "./api.js";
import { el, find } from "./dom.js";
import { render } from "./view.js";

const POLL_MS = 2000, SETTLE_MS = 150, LONGEST_PAUSE_MS = 5000;
const state = { events: [] };
let newest = 0, pending = null, known = [], loading = false, again = false, locked = false;
const trouble = { poll: null, stream: null };

const draw = () => render(state, (label, role, about, what) => control(label, role, about, what, load));

/** One at a time: an answer that was asked for earlier never replaces a later one. */
async function load() {
  again = loading;
  if (loading) return;
  loading = true;
  try {
    const [topology, raft] = await Promise.all([get("/topology?consistency=stale"), get("/raft")]);
    state.workers = topology.workers;
    state.groups = topology.groups;
    state.raft = raft;
    state.leaders = await asTheLeaderSees(raft);
    known = raft.nodes.filter((node) => node.url && node.id !== raft.this_node_id);
    say("poll", null);
    draw();
  } catch (problem) {
    say("poll", problem);
  } finally {
    loading = false;
  }
  if (again) soon();
}

async function asTheLeaderSees(raft) {
  if (raft.leader_id === raft.this_node_id) return raft;
  return raft.leader_id ? get("/raft/leader").catch(() => null) : null;
}

function soon() {
  pending ??= setTimeout(() => {
    pending = null;
    load();
  }, SETTLE_MS);
}

/** How this coordinator answers, one way or the other: the worse of the two is what the line says. */
function say(way, problem) {
  trouble[way] = problem;
  const line = find("connection"), { poll, stream } = trouble;
  if ([poll, stream].some((one) => one instanceof Refused && one.status === 401)) return needKey();
  line.className = poll ? "cut" : "";
  if (poll instanceof Refused) put(line, `This coordinator refuses: ${poll.message} What is shown is old.`);
  else if (poll) cutOff(line);
  else put(line, stream ? `from ${state.raft?.this_node_id ?? "?"}, every 2 s: its stream is down` : `live, from ${state.raft?.this_node_id ?? "?"}`);
}

function put(line, text) {
  if (line.textContent !== text) line.textContent = text;
}

function cutOff(line) {
  line.replaceChildren("This coordinator cannot be reached; trying again. Others: ",
    ...known.flatMap((node) => [el("a", { href: node.url, rel: "noreferrer" }, node.id), " "]));
}

/** The reader is asked once; afterwards there is the button. */
function needKey() {
  put(find("connection"), "This cluster asks for an API key.");
  find("key").hidden = false;
  if (locked) return;
  locked = true;
  askKey(withKey);
}

function withKey() {
  locked = false;
  trouble.poll = trouble.stream = null;
  start();
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
  if (kind === "reset") loadTrail().then(draw, () => soon());
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
        if (trouble.stream) say("stream", null);
        take(kind, data);
      }, mine.signal);
    } catch (problem) {
      if (mine.signal.aborted) return;
      say("stream", problem);
      if (problem instanceof Refused && problem.status === 401) return;
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
    say("poll", problem);
    if (problem instanceof Refused && problem.status === 401) return;
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
find("key").onclick = () => askKey(withKey);
theme(localStorage.getItem("varpulis-theme"));
setInterval(() => locked || load(), POLL_MS);
start();
