// One task, opened from its row: timeline, routing, report, usage, output, live log.

import { element, stateChip, took, clock, length } from "./parts.js";

const LOG_KEPT = 200_000; // characters; the log itself stays on the hub
const at = (id) => document.getElementById(id);
let open = null; // id of the task shown
let source = null;
let again = null;
let log = null;

export const openDetail = async (id) => {
  closeLog();
  open = id;
  log = element("pre", { tabindex: "0", "aria-label": "Log" });
  at("detail-title").replaceChildren("Loading\u2026");
  at("detail-body").replaceChildren();
  if (!at("detail").open) at("detail").showModal();
  await draw(id);
  if (open === id) follow(id);
};

export const closeDetail = () => at("detail").close();

export const refreshDetail = (id) => {
  if (id !== open || again) return;
  again = setTimeout(() => { again = null; if (open === id) draw(id); }, 300);
};

const closeLog = () => {
  source?.close();
  source = null;
  clearTimeout(again);
  again = null;
};

at("detail").addEventListener("close", () => { closeLog(); open = null; });

const ask = async (path) => {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail ?? `the hub answered ${answer.status}`);
  return told;
};

const draw = async (id) => {
  const base = `/api/v1/tasks/${encodeURIComponent(id)}`;
  try {
    const [task, events] = await Promise.all([ask(base), ask(`${base}/events`)]);
    if (open !== id) return;
    at("detail-title").replaceChildren(stateChip(task.state), " ", task.title || task.id);
    at("detail-body").replaceChildren(...summary(task), ...timeline(task, events.events), ...routing(task.routing), ...report(task), ...output(task),
      element("h3", {}, "Log"), log);
  } catch (error) {
    // What is shown already stays.
    if (open === id && !at("detail-body").hasChildNodes()) at("detail-title").replaceChildren(`Cannot load the task: ${error.message}`);
  }
};

const facts = (pairs) => element("dl", {}, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) =>
  [element("dt", {}, name), element("dd", {}, value)]));

const cost = (usage) => usage.model === "none" ? `no model, ${length(usage.seconds)}`
  : `${usage.model}${usage.endpoint ? ` at ${usage.endpoint}` : ""}: ${usage.input_tokens} tokens in, ${usage.output_tokens} out, ${usage.cost_usd === null ? "price unknown" : `$${usage.cost_usd.toFixed(4)}`}, ${length(usage.seconds)}`;

const verdict = (task) => task.verified === true ? "every check passed" : task.verified === false ? "checks failed" : task.result ? "no checks, so nothing is proven" : "";

const summary = (task) => [
  task.reason ? element("p", {}, task.reason) : "",
  facts([
    ["id", element("code", {}, task.id)],
    ["checks", verdict(task)],
    ["agent", task.agent],
    ["took", task.started_at ? took(task.started_at, task.ended_at) : ""],
    ["usage", task.result ? cost(task.usage) : ""],
    ["branch", task.result?.branch ? element("code", {}, task.result.branch) : ""],
    ["commit", task.result?.commit ? element("code", {}, task.result.commit) : ""],
  ]),
  ...(task.result?.error && task.result.error !== task.reason ? [element("p", {}, stateChip("failed", task.result.error_code || "failed"), " ", task.result.error)] : []),
];

const timeline = (task, events) => {
  const start = Date.parse(task.submitted_at);
  const rows = events.map((event) => element("li", {}, element("time", { datetime: event.at, title: clock(event.at) }, `+${length((Date.parse(event.at) - start) / 1000)}`),
    element("span", {}, event.kind.replaceAll("_", " ")),
    element("span", { class: "muted" }, [event.agent, event.epoch ? `attempt ${event.epoch}` : "", event.facts.reason ?? ""].filter(Boolean).join(" \u00b7 "))));
  return [element("h3", {}, "Timeline"), element("ol", { class: "events" }, ...rows)];
};

const routing = (told) => [element("h3", {}, "Routing"), element("p", {}, told.reason || "Not routed yet."), facts([
  ["tier", `${told.tier.effective} (${told.tier.explicit ? "as submitted" : `looks ${told.tier.inferred}`}${told.tier.signals.length ? `: ${told.tier.signals.join(", ")}` : ""})`],
  ["strategy", told.strategy],
  ["model", told.model],
])];

const finding = (one) => {
  const whole = [stateChip(one.passed ? "passed" : "failed", one.passed ? "passed" : "failed"), " ", one.name || one.type, element("span", { class: "muted" }, ` ${one.detail} ${length(one.seconds)}`)];
  return element("li", {}, ...whole, ...(!one.passed && one.output ? [element("pre", { tabindex: "0" }, one.output)] : []));
};

const report = (task) => {
  if (!task.iterations.length) return [];
  return [element("h3", {}, "Report"), ...task.iterations.flatMap((one) => [
    element("p", {}, `Iteration ${one.number}: ${one.execution_ok ? "work done" : "work failed"}${one.summary ? `. ${one.summary}` : ""}`),
    element("ul", {}, ...one.findings.map(finding)),
  ])];
};

const output = (task) => task.result?.output ? [element("h3", {}, "Output"), element("pre", { tabindex: "0" }, task.result.output)] : [];

const follow = (id) => {
  source = new EventSource(`/api/v1/tasks/${encodeURIComponent(id)}/logs?follow=true`);
  source.onmessage = (message) => {
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.append(JSON.parse(message.data).text);
    while (log.textContent.length > LOG_KEPT && log.firstChild) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  };
  source.addEventListener("end", () => { closeLog(); if (!log.hasChildNodes()) log.append("The task wrote nothing."); if (open === id) draw(id); });
};
