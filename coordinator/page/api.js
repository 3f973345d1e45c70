// The API of this coordinator, with the reader's key. The key lives in this tab alone (sessionStorage).

const BASE = "/api/v1/cluster";
const RANK = { viewer: 1, operator: 2, admin: 3 };

export class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? `HTTP ${status}`);
    this.status = status;
    this.diagnostics = body.diagnostics ?? [];
  }
}

export const key = {
  get: () => sessionStorage.getItem("varpulis-key") ?? "",
  set: (value) => (value ? sessionStorage.setItem("varpulis-key", value) : sessionStorage.removeItem("varpulis-key")),
};

export const me = { role: null, keysRequired: false };

export const may = (role) => (RANK[me.role] ?? 0) >= RANK[role];

export function headers(more = {}) {
  return key.get() ? { "x-api-key": key.get(), ...more } : more;
}

async function call(method, path, body, also = {}) {
  const more = method === "GET" ? {} : { "idempotency-key": crypto.randomUUID?.() ?? String(Math.random()).slice(2), ...also };
  if (body !== undefined) more["content-type"] = "application/json";
  const answer = await fetch(BASE + path, {
    method, headers: headers(more), body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(15000),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

export const get = (path) => call("GET", path);
export const remove = (path) => call("DELETE", path);
export const post = (path, body = {}, also = {}) => call("POST", path, body, also);

export async function whoami() {
  const told = await get("/whoami");
  me.role = told.role;
  me.keysRequired = told.keys_required;
}

/** Read the stream of events until it ends; `take(kind, data)` for each. Resumes after `since`. */
export async function follow(since, take, signal) {
  const answer = await fetch(`${BASE}/stream${since ? `?since=${since}` : ""}`, { headers: headers(), signal });
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
      if (fields.event) take(fields.event, fields.data ? JSON.parse(fields.data) : null);
    }
  }
}
