// The routes of a group as a graph: pipelines in columns, by how far they are from where events come in.

import { svg } from "./dom.js";

const WIDE = 170, HIGH = 34, GAP_X = 70, GAP_Y = 16;

export function graph(group) {
  const names = [...new Set(group.placements.map((one) => one.instance_of))];
  const routes = group.routes.filter((route) => names.includes(route.to_pipeline) && names.includes(route.from_pipeline));
  const column = columns(names, routes);
  const rows = {}, place = {};
  for (const name of names) {
    const at = column[name];
    rows[at] = (rows[at] ?? 0) + 1;
    place[name] = { x: 4 + at * (WIDE + GAP_X), y: 4 + (rows[at] - 1) * (HIGH + GAP_Y) };
  }
  const width = 8 + (Math.max(...Object.values(column), 0) + 1) * (WIDE + GAP_X) - GAP_X;
  const height = 8 + Math.max(...Object.values(rows), 1) * (HIGH + GAP_Y) - GAP_Y;
  const said = routes.map((route) => `${route.from_pipeline} to ${route.to_pipeline}`).join(", ") || "no routes";
  const arrow = `arrow-${group.id}`;
  return svg("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `routes: ${said}` },
    svg("defs", {}, svg("marker", { id: arrow, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z" }))),
    routes.map((route) => edge(place[route.from_pipeline], place[route.to_pipeline], route.event_types, arrow)),
    names.map((name) => box(name, place[name], group.placements.filter((one) => one.instance_of === name))));
}

function columns(names, routes) {
  const at = Object.fromEntries(names.map((name) => [name, 0]));
  for (let round = 0; round < names.length; round++) {
    for (const route of routes) {
      const next = at[route.from_pipeline] + 1;
      if (next > at[route.to_pipeline] && next < names.length) at[route.to_pipeline] = next;
    }
  }
  return at;
}

function box(name, { x, y }, copies) {
  const failed = copies.some((one) => one.status === "failed");
  const where = copies.map((one) => one.worker_id ?? "nowhere").join(", ");
  return svg("g", {},
    svg("title", {}, `${name} on ${where}`),
    svg("rect", { x, y, width: WIDE, height: HIGH, rx: 6, class: failed ? "failed" : null }),
    svg("text", { x: x + 8, y: y + 14 }, short(name, 24)),
    svg("text", { x: x + 8, y: y + 28, class: "label" }, short(where, 30)));
}

function edge(from, to, types, arrow) {
  const x1 = from.x + WIDE, y1 = from.y + HIGH / 2, x2 = to.x, y2 = to.y + HIGH / 2, bend = (x1 + x2) / 2;
  return svg("g", {},
    svg("path", { d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}`, "marker-end": `url(#${arrow})` }),
    svg("text", { class: "label", x: bend, y: Math.min(y1, y2) - 4, "text-anchor": "middle" }, short(types.join(", "), 14)));
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
