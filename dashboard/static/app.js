// The live page. The hub folds and tells what changed; this applies it. Everything shown is a text node, never markup.
// A broken line removes nothing: what is on the page stays, its age is told, and the page comes back by itself.

import { openDetail, closeDetail, refreshDetail } from "./detail.js";
import { element, stateChip, took, ago, clock } from "./parts.js";

const LIVE = "/dashboard/live";
const SILENT_MS = 12_000; // the hub speaks every 5 s: the line is dead even if nobody said so
const AGAIN_MS = 1_000;
const EVENTS_KEPT = 50;

/** What stands where no number has come yet: nothing known is not nothing there. */
const UNKNOWN = "\u2013";
const page = { queue: {}, agents: [], tasks: new Map(), order: [], events: [] };
let heardAt = 0;
let isLive = false;
let isOver = false;
let source = null;
const at = (id) => document.getElementById(id);

// --- the line --------------------------------------------------------------------------------------------------------

const connect = () => {
  source?.close();
  source = new EventSource(LIVE);
  source.onopen = () => heard();
  source.onmessage = (message) => { heard(); apply(JSON.parse(message.data)); };
  source.onerror = () => {
    lost();
    // A browser gives up for good when the answer is not a stream: the hub is starting, or the session is over.
    if (source.readyState === EventSource.CLOSED) setTimeout(look, AGAIN_MS);
  };
};

const look = async () => {
  try {
    const answer = await fetch("/api/v1/health", { headers: { accept: "application/json" } });
    if (answer.status === 401) return over();
  } catch {
    // Not there yet: the next try will tell.
  }
  connect();
};

const heard = () => {
  heardAt = Date.now();
  if (isLive) return;
  isLive = true;
  document.body.dataset.link = "live";
  at("banner").hidden = true;
  drawAgents();
};

const lost = () => {
  if (!isLive && heardAt) return tick();
  isLive = false;
  document.body.dataset.link = "lost";
  drawAgents();
  tick();
};

const over = () => {
  isOver = true;
  lost();
  at("banner").replaceChildren("The hub asks for a login again (it was restarted, or the session has ended). ", element("a", { href: "/" }, "Log in"));
  at("banner").hidden = false;
};

const tick = () => {
  const age = heardAt ? Math.max(0, Math.round((Date.now() - heardAt) / 1000)) : null;
  at("fresh").textContent = isLive ? "\u25cf live" : age === null ? "connecting" : `? ${age} s old`;
  if (!isLive && heardAt && !isOver) {
    at("banner").textContent = `Reconnecting, data from ${age} s ago.`;
    at("banner").hidden = false;
  }
  for (const time of document.querySelectorAll("time[data-since]")) time.textContent = ago(time.dateTime);
  for (const cell of document.querySelectorAll("[data-started]")) cell.textContent = took(cell.dataset.started, null);
};

const watch = () => {
  tick();
  if (!isLive || Date.now() - heardAt < SILENT_MS) return;
  lost();
  connect();
};

// --- what changed ----------------------------------------------------------------------------------------------------

const apply = (told) => {
  if (told.queue) { page.queue = told.queue; drawQueue(); }
  if (told.agents) { page.agents = told.agents; drawAgents(); }
  for (const task of told.tasks ?? []) page.tasks.set(task.id, task);
  if (told.order) {
    page.order = told.order;
    const shown = new Set(told.order);
    for (const id of page.tasks.keys()) if (!shown.has(id)) page.tasks.delete(id);
  }
  if (told.tasks || told.order) {
    drawTasks(new Set((told.tasks ?? []).map((task) => task.id)));
    drawAgents(); // they name their tasks
  }
  if (told.events) {
    const known = new Set(page.events.map((event) => event.seq));
    page.events = [...told.events.filter((event) => !known.has(event.seq)), ...page.events].slice(0, EVENTS_KEPT);
    drawEvents();
    for (const id of new Set(told.events.map((event) => event.task))) if (id) refreshDetail(id);
  }
  tick();
};

const drawQueue = () => {
  const shown = ["blocked", "queued", "assigned", "running", "waiting"];
  const more = Object.keys(page.queue).filter((state) => !shown.includes(state)).sort();
  at("queue").replaceChildren(...[...shown, ...more].map((state) =>
    element("li", {}, element("b", {}, String(page.queue[state] ?? UNKNOWN)), stateChip(state))));
};

// How an agent confines what work runs, as it says itself among what it offers.
const sandboxOf = (agent) => (agent.capabilities ?? []).find((each) => each.startsWith("sandbox:"))?.slice(8) ?? "unknown";

const drawAgents = () => {
  if (!page.agents.length) {
    at("agents").replaceChildren(element("li", { class: "muted" }, "No agent has joined. Start one: ", element("code", {}, "agentcom sidecar --hub URL --token-file agent.token")));
    return;
  }
  at("agents").replaceChildren(...page.agents.map((agent) => {
    const slots = element("div", { class: "slots", role: "img", "aria-label": `${agent.busy} of ${agent.slots} slots busy` });
    for (let slot = 0; slot < Math.min(agent.slots, 32); slot += 1) slots.append(element("i", { class: slot < agent.busy ? "busy" : "" }));
    const chip = isLive ? stateChip(agent.state) : stateChip("unknown", `unknown, was ${agent.state}`);
    const doing = agent.tasks.map((id) => page.tasks.get(id)?.title ?? id).join(", ");
    return element("li", {}, element("b", {}, agent.name), " ", chip, slots,
      element("div", { class: "muted" }, `${agent.busy} of ${agent.slots} slots, on ${agent.host}, sandbox: ${sandboxOf(agent)}`),
      doing ? element("div", {}, doing) : "",
      agent.last_seen_at ? element("div", { class: "muted" }, "seen ", element("time", { datetime: agent.last_seen_at, "data-since": "" }, ago(agent.last_seen_at))) : "");
  }));
};

const rows = new Map(); // task id -> its row, so that a row keeps its focus while others change

const drawTasks = (changed) => {
  for (const id of changed) rows.delete(id);
  const focused = document.activeElement?.dataset?.task;
  const made = page.order.filter((id) => page.tasks.has(id)).map((id) => {
    if (!rows.has(id)) rows.set(id, taskRow(page.tasks.get(id)));
    return rows.get(id);
  });
  for (const id of rows.keys()) if (!page.tasks.has(id)) rows.delete(id);
  document.querySelector("#tasks tbody").replaceChildren(...made);
  if (focused) document.querySelector(`#tasks [data-task="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  at("no-tasks").hidden = made.length > 0;
  at("tasks").hidden = made.length === 0;
};

const checks = (task) => task.verified === true ? stateChip("passed", "verified")
  : task.verified === false ? stateChip("lost", "not verified")
    : task.ended_at ? element("span", { class: "muted" }, "no checks") : "";

const taskRow = (task) => {
  const title = element("button", { type: "button", "data-task": task.id }, task.title || task.id);
  title.addEventListener("click", () => openDetail(task.id));
  const name = element("td", {}, title);
  if (task.reason) name.append(element("div", { class: "reason" }, task.reason));
  const time = element("td", { class: "num nowrap", "data-label": "took" }, task.started_at ? took(task.started_at, task.ended_at) : "");
  if (task.started_at && !task.ended_at) time.dataset.started = task.started_at;
  const state = stateChip(task.state, task.epoch > 1 ? `${task.state}, attempt ${task.epoch}` : task.state);
  return element("tr", {}, element("td", { class: "nowrap" }, state), name, element("td", {}, checks(task)),
    element("td", { "data-label": "by" }, task.agent ?? ""), time,
    element("td", { class: "nowrap muted", "data-label": "submitted" }, element("time", { datetime: task.submitted_at, "data-since": "" }, ago(task.submitted_at))));
};

const drawEvents = () => {
  at("events").replaceChildren(...page.events.map((event) => {
    const facts = Object.entries(event.facts).filter(([, value]) => value !== null && value !== "").map(([name, value]) =>
      `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`);
    const subject = [event.agent, event.task && (page.tasks.get(event.task)?.title ?? event.task), event.epoch ? `attempt ${event.epoch}` : null];
    return element("li", {}, element("time", { datetime: event.at }, clock(event.at)), element("span", {}, event.kind.replaceAll("_", " ")),
      element("span", { class: "muted" }, [...subject.filter(Boolean), ...facts].join(" \u00b7 ")));
  }));
};

at("leave").addEventListener("click", async () => {
  source?.close();
  await fetch("/session", { method: "DELETE" });
  location.assign("/");
});
at("close").addEventListener("click", closeDetail);
drawQueue();
connect();
setInterval(watch, 1_000);
