// @ts-check
// What the hub has told: tables of rows as signals, kept true by one stream. A broken line removes nothing: what is here
// stays, its age is told, and the line comes back by itself. Also how the hub is asked and where the page is.

import { batch, computed, signal } from "@preact/signals";

/** @typedef {Record<string, any>} Row */

const SILENT_MS = 12_000; // the hub speaks every 5 s: the line is dead even if nobody said so
const AGAIN_MS = 1_000;
const EVENTS_KEPT = 500;

/** Where this hub is, also below a path of a proxy. */
export const base = new URL("./", document.baseURI);
/** The same for commands: what others call this hub. */
export const address = base.href.replace(/\/$/, "");

/** One table: a signal for each row, so that only what shows a row that changed is drawn again. */
export class Table {
  constructor() {
    /** @type {Map<string, import("@preact/signals").Signal<Row>>} */
    this.rows = new Map();
    /** Keys in order. */
    this.keys = signal(/** @type {string[]} */ ([]));
    /** Whether the hub has told of it at all: nothing known is not nothing there. */
    this.known = signal(false);
    /** Keys by machine. */
    this.groups = computed(() => {
      const found = /** @type {Map<string, string[]>} */ (new Map());
      for (const key of this.keys.value) {
        const host = this.rows.get(key)?.peek().host;
        const keys = found.get(host);
        if (keys) keys.push(key); else found.set(host, [key]);
      }
      return found;
    });
  }

  /** The rows of one machine: who reads them is drawn again for these alone. @param {string} host */
  of(host) {
    return (this.groups.value.get(host) ?? []).map((key) => this.rows.get(key)?.value ?? {});
  }

  /** @param {string} key */
  get(key) {
    this.keys.value; // a row may come later
    return this.rows.get(key)?.value;
  }

  /** Every row, in order of its key. */
  get all() {
    return this.keys.value.map((key) => /** @type {Row} */ (this.rows.get(key)?.value));
  }

  /** @param {Record<string, Row | null>} changed @param {boolean} whole */
  apply(changed, whole) {
    let moved = !this.known.value;
    if (whole) {
      for (const key of this.rows.keys()) {
        if (!Object.hasOwn(changed, key)) { this.rows.delete(key); moved = true; }
      }
    }
    for (const [key, fields] of Object.entries(changed)) {
      const row = this.rows.get(key);
      if (fields === null) { moved = this.rows.delete(key) || moved; }
      else if (row) {
        moved ||= fields.host !== undefined && fields.host !== row.peek().host;
        row.value = whole ? fields : { ...row.peek(), ...fields };
      }
      else { this.rows.set(key, signal(fields)); moved = true; }
    }
    this.known.value = true;
    if (moved) this.keys.value = [...this.rows.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  }
}

export const tables = {
  hub: new Table(), agents: new Table(), hosts: new Table(), gpus: new Table(), endpoints: new Table(),
  tasks: new Table(), lists: new Table(), budgets: new Table(), alerts: new Table(),
};
/** Newest first. */
export const events = signal(/** @type {Row[]} */ ([]));
/** Who is looking, and what they may do. */
export const me = signal({ role: "", label: "", may: /** @type {string[]} */ ([]), read_only: false });
/** @type {import("@preact/signals").Signal<"connecting" | "live" | "lost" | "over">} */
export const link = signal("connecting");
export const isLive = computed(() => link.value === "live");
export const heardAt = signal(0);
/** Milliseconds of this machine's clock; moves once a second. */
export const now = signal(Date.now());
/** How far the hub's clock is ahead of this machine's, in milliseconds. */
export const ahead = signal(0);

/** How many alerts nobody has taken on yet. */
export const firing = computed(() => tables.alerts.all.filter((one) => one.state === "firing").length);

/** @param {string} permission */
export const may = (permission) => me.value.may.includes(permission) && !me.value.read_only;
export const hub = computed(() => tables.hub.get("hub"));

/** @param {string} name */
export const listed = (name) => (tables.lists.get(name)?.ids ?? []).map((/** @type {string} */ id) => tables.tasks.get(id)).filter(Boolean);

// --- the line --------------------------------------------------------------------------------------------------------

/** The one stream of this tab: browsers open six connections to a host. @type {EventSource | null} */
let source = null;
/** The id of the last event: where the next stream goes on. */
let place = "";
/** @typedef {"log" | "log-end" | "log-dropped" | "log-refused"} News */
/** What the stream tells beside the tables. @type {{query: Record<string, string>, told: (kind: News, data: Row) => void} | null} */
let followed = null;
const listeners = new Set();

/** Call `told` with each event as it comes; returns how to stop that. @param {(event: Row) => void} told */
export const onEvent = (told) => { listeners.add(told); return () => listeners.delete(told); };

const heard = () => batch(() => {
  heardAt.value = Date.now();
  if (link.value !== "live") link.value = "live";
});

/** Rows that differ in the same fields come as columns. @param {any} told */
const unpack = (told) => {
  for (const [table, groups] of Object.entries(told.packed ?? {})) {
    const rows = told.rows[table] ??= {};
    for (const { fields, rows: packed } of groups) {
      for (const [key, values] of Object.entries(packed)) {
        const row = /** @type {Row} */ ({});
        for (let place = 0; place < fields.length; place += 1) row[fields[place]] = values[place];
        rows[key] = row;
      }
    }
  }
};

/** @param {any} told */
const apply = (told) => batch(() => {
  unpack(told);
  for (const [name, table] of Object.entries(tables)) {
    const changed = told.rows[name];
    if (changed) table.apply(changed, told.whole);
    else if (told.whole) table.apply({}, true);
  }
  if (told.whole) events.value = [];
  const fresh = told.events.filter((/** @type {Row} */ event) => !(events.value[0]?.seq >= event.seq));
  if (fresh.length) events.value = [...fresh.reverse(), ...events.value].slice(0, EVENTS_KEPT);
  for (const event of fresh) for (const listener of listeners) listener(event);
});

/** Open the stream, or open it anew where the last one ended: nothing is told twice, and nothing left out. */
export const connect = () => {
  source?.close();
  const asked = new URLSearchParams({ packed: "true", ...followed?.query, ...(place ? { after: place } : {}) });
  const mine = source = new EventSource(new URL(`dashboard/live?${asked}`, base));
  const on = (/** @type {string} */ name, /** @type {(told: any) => void} */ does) => mine.addEventListener(name, (message) => {
    if (source !== mine) return;
    heard();
    does(JSON.parse(message.data));
    place = message.lastEventId || place;
  });
  on("message", apply);
  on("beat", () => {});
  on("me", (told) => batch(() => { me.value = told; ahead.value = Date.parse(told.now) - Date.now(); }));
  for (const kind of /** @type {News[]} */ (["log", "log-end", "log-dropped", "log-refused"])) on(kind, (told) => followed?.told(kind, told));
  mine.onopen = heard;
  mine.onerror = () => {
    if (source !== mine) return;
    if (link.value !== "over") link.value = "lost";
    // A browser gives up for good when the answer is not a stream: the hub is starting, or the session is over.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (source === mine) look(); }, AGAIN_MS);
  };
};

/**
 * Have the stream tell a log too; returns how to stop that.
 * @param {Record<string, string>} query as of `dashboard/live` @param {(kind: News, data: Row) => void} told
 */
export const follow = (query, told) => {
  const mine = { query, told };
  refollow(mine);
  return () => { if (followed === mine) refollow(null); };
};

let isDue = false;
const refollow = (/** @type {typeof followed} */ wanted) => {
  followed = wanted;
  place = place.split(".")[0]; // BOARD.LOG: of another log nothing has been heard
  if (isDue) return;
  isDue = true; // one log left and another taken up is one change
  queueMicrotask(() => { isDue = false; if (source && link.value !== "over") connect(); });
};

const look = async () => {
  try {
    const answer = await fetch(new URL("api/v1/health", base), { headers: { accept: "application/json" } });
    if (answer.status === 401) { link.value = "over"; return; }
  } catch {
    // Not there yet: the next try will tell.
  }
  connect();
};

setInterval(() => {
  now.value = Date.now();
  if (link.value !== "live" || Date.now() - heardAt.value < SILENT_MS) return;
  link.value = "lost";
  connect();
}, 1_000);

/** End the session of this browser. */
export const leave = async () => {
  source?.close();
  source = null;
  await fetch(new URL("session", base), { method: "DELETE" });
  location.assign(base);
};

// --- asking ----------------------------------------------------------------------------------------------------------

/** A refusal of the hub, in its own words. */
export class Refused extends Error {
  /** @param {number} status @param {Row} problem */
  constructor(status, problem) {
    super(problem.detail ?? `the hub answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/**
 * Ask the hub. `path` is below `/api/v1/`.
 * @param {string} path @param {{method?: string, body?: unknown, signal?: AbortSignal}} [how]
 */
export const ask = async (path, { method = "GET", body, signal: stop } = {}) => {
  const headers = { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) };
  const answer = await fetch(new URL(`api/v1/${path}`, base), { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: stop });
  const told = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
};

// --- where the page is -----------------------------------------------------------------------------------------------

const parse = () => {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/").map(decodeURIComponent);
  return { view: view || "overview", id: rest.join("/"), query: new URLSearchParams(query ?? "") };
};
export const route = signal(parse());
addEventListener("hashchange", () => { route.value = parse(); });

/** @param {string} view @param {string} [id] @param {Record<string, string | string[] | undefined>} [query] */
export const href = (view, id = "", query = {}) => {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value ?? []].flat()) if (each) asked.append(name, each);
  const text = asked.toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
};

/** Change the query of the page where it is, without a step back to it. @param {Record<string, string | string[] | undefined>} query */
export const requery = (query) => {
  history.replaceState(null, "", href(route.value.view, route.value.id, query));
  route.value = parse();
};

// --- what this browser remembers -------------------------------------------------------------------------------------

/** A choice that outlives the page. @param {string} name @param {string} usual */
export const remembered = (name, usual) => {
  const kept = signal(usual);
  try { kept.value = localStorage.getItem(`agentcom.${name}`) ?? usual; } catch { /* a browser may forbid it */ }
  return {
    get value() { return kept.value; },
    set value(value) {
      kept.value = value;
      try { localStorage.setItem(`agentcom.${name}`, value); } catch { /* then it lasts as long as the page */ }
    },
  };
};
export const theme = remembered("theme", "auto");
export const clockMode = remembered("clock", "ago");
export const singleKeys = remembered("keys", "on");
/** What they may be. */
export const CHOICES = { theme: ["auto", "dark", "light"], clock: ["ago", "local", "utc"], keys: ["on", "off"] };
