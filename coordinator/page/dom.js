// Making elements. Whatever comes from the cluster goes in as text, never as markup: there is no innerHTML here.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

/** An element with attributes (`on...` are listeners) and children, which are nodes or text. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * Put other children in, if they look different: what stays as it is can be clicked and read meanwhile. The focus
 * stays on the control that had it, by its `data-focus`.
 */
export function replace(parent, ...children) {
  const made = el("div", {}, ...children);
  if (made.innerHTML === parent.innerHTML) return;
  const held = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  parent.replaceChildren(...made.childNodes);
  if (held) parent.querySelector(`[data-focus="${CSS.escape(held)}"]`)?.focus();
}

export function table(heads, rows, caption) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col", class: head.number ? "n" : null }, head.text ?? head)))),
      el("tbody", {}, rows)));
}

export const cell = (content, kind = "") => el("td", { class: kind || null }, content);
