// @ts-check
// Is it healthy, what needs me, what is happening, and what does it cost?

import { useEffect, useState } from "preact/hooks";
import { computed } from "@preact/signals";
import { address, ahead, ask, events, href, hub, isLive, listed, now, onEvent, requery, tables } from "../store.js";
import { AsApi, Bar, between, Chart, Command, count, Empty, html, length, LiveState, Loading, money, plural, State, TaskTable, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */
/** @typedef {import("../ui.js").Line} Line */

// --- health ------------------------------------------------------------------------------------------------------------

/** In one line: how it is, and because of what. */
const Health = () => {
  const health = /** @type {Row} */ (hub.value);
  const causes = Object.entries(health.components).filter(([, part]) => part.state !== "ok");
  return html`<p class="health"><${LiveState} state=${health.state} />${causes.length ? html` because of ${causes.map(([name, part], place) => html`<span key=${name}>${place ? "; " : ""}<b>${name}</b>: ${part.detail}</span>`)}` : html` <span class="muted">every part of the hub is well</span>`}</p>`;
};

const Counts = () => {
  const queue = hub.value?.queue;
  const shown = ["blocked", "queued", "assigned", "running", "waiting", "completed", "failed", "dead", "cancelled"];
  return html`<ul class="counts" aria-label="Tasks by state">${shown.map((state) => html`<li key=${state} class=${queue?.[state] ? "" : "none"}><a href=${href("tasks", "", { state })}>
    <b class="num">${count(queue?.[state])}</b><${State} state=${state} /></a></li>`)}</ul>`;
};

/** @type {Record<string, string>} */
const SEVERITY = { critical: "failed", warning: "again", info: "queued" };

/** The servers that are down, as a text: what else a server tells of draws nothing here. */
const down = computed(() => tables.endpoints.keys.value.filter((key) => tables.endpoints.get(key)?.state === "down").join("\n"));
/** The minute that it is: charts of a mesh in which nothing happens go on, too. */
const minute = computed(() => Math.floor((now.value + ahead.value) / 60_000) * 60);

/** @param {{of: string}} props */
const Down = ({ of }) => {
  const one = tables.endpoints.get(of) ?? {};
  return html`<li><${State} state="down" /> <a href=${href("models", "", { q: one.host || one.id })}>${one.id}${one.host ? ` on ${one.host}` : ""}</a> <span class="reason">${one.detail}</span></li>`;
};

const NeedsYou = () => {
  const alerts = tables.alerts.all.filter((one) => one.state === "firing");
  const waiting = listed("waiting");
  const troubled = listed("troubled").slice(0, 5);
  const told = new Set(alerts.filter((one) => one.rule === "endpoint_down").map((one) => one.subject)); // one cause, one line
  const servers = (down.value ? down.value.split("\n") : []).filter((key) => { const [host, ...id] = key.split(" "); return !told.has(`${id.join(" ")} on ${host}`); });
  if (!alerts.length && !waiting.length && !troubled.length && !servers.length) return html`<p class="calm"><${State} state="ok">nothing needs you<//></p>`;
  return html`<ul class="needs rows">
    ${alerts.slice(0, 8).map((one) => html`<li key=${one.id}><span class="state ${SEVERITY[one.severity] ?? "again"}"><span aria-hidden="true">▲</span> ${one.severity}</span> <a href=${href("alerts")}>${one.summary || one.rule}</a>${one.summary?.includes(one.subject) ? null : html` <span class="reason">${one.subject}</span>`} <span class="muted"><${When} at=${one.since} /></span></li>`)}
    ${waiting.slice(0, 5).map((/** @type {Row} */ task) => html`<li key=${task.id}><${State} state="waiting">waits for a person<//> <a href=${href("reviews", task.id)}>${task.title || task.id}</a> <span class="reason">${task.reason}</span></li>`)}
    ${servers.map((key) => html`<${Down} key=${key} of=${key} />`)}
    ${troubled.map((/** @type {Row} */ task) => html`<li key=${task.id}><${State} state=${task.state} /> <a href=${href("tasks", task.id)}>${task.title || task.id}</a> <span class="reason">${task.reason}</span> <span class="muted"><${When} at=${task.ended_at} /></span></li>`)}</ul>`;
};

// --- the mesh over time --------------------------------------------------------------------------------------------------

const SPANS = /** @type {Record<string, [number, number, string]>} */ ({ hour: [3_600, 60, "a minute"], day: [86_400, 900, "15 min"], week: [604_800, 3_600, "an hour"] });
const NAMES = "tasks_completed,tasks_failed,tasks_queued,tasks_running,oldest_wait_s,success_rate,cost_usd,tokens";
const AGAIN_MS = 60_000; // a point a minute

/**
 * The figures of a span; asked for again once work has moved and its minute is over, and by whoever comes back to the
 * page. Where nothing happens nothing is asked.
 * @param {string} span
 */
const useFigures = (span) => {
  const [told, setTold] = useState(/** @type {Row | null} */ (null));
  useEffect(() => {
    const stop = new AbortController();
    const [back, step] = SPANS[span];
    let due = 0;
    let movedAt = 0;
    let isBehind = false;
    const look = () => {
      isBehind = false;
      const to = Math.floor((Date.now() + ahead.value) / 1000);
      const since = new Date((to - back) * 1000).toISOString().replace(/\.\d+/, "");
      ask(`metrics?names=${NAMES}&since=${since}&step_s=${step}`, { signal: stop.signal }).then(
        (answer) => setTold({ ...answer, span, from: to - back, to }),
        (error) => { if (!stop.signal.aborted) setTold({ series: [], step_s: step, span, from: to - back, to, error }); },
      );
    };
    const later = () => {
      due = Date.now() - movedAt < AGAIN_MS ? window.setTimeout(later, AGAIN_MS) : 0; // what moved last has no point yet
      if (document.hidden) isBehind = true; else look();
    };
    const back_ = () => { if (isBehind && !document.hidden) look(); };
    look();
    const quiet = onEvent((event) => { if (event.task) { movedAt = Date.now(); due ||= window.setTimeout(later, AGAIN_MS); } });
    document.addEventListener("visibilitychange", back_);
    return () => { stop.abort(); quiet(); clearTimeout(due); document.removeEventListener("visibilitychange", back_); };
  }, [span, isLive.value]);
  return told;
};

/** One line from all series of a name. @param {Row} told @param {string} name @param {number} [times] @returns {Line["points"]} */
const line = (told, name, times = 1) => {
  /** @type {Map<number, number | null>} */ const sums = new Map();
  for (const series of told.series) {
    if (series.name !== name) continue;
    for (const [at, value] of series.points) sums.set(at, value === null ? sums.get(at) ?? null : (sums.get(at) ?? 0) + value * times);
  }
  return [...sums].sort(([a], [b]) => a - b);
};

/** @param {Line["points"]} points */
const last = (points) => points.findLast(([, value]) => value !== null)?.[1] ?? null;
/** @param {Line["points"]} points */
const total = (points) => points.reduce((sum, [, value]) => sum + (value ?? 0), 0);
const whole = (/** @type {number} */ value) => count(value < 10 ? Math.round(value * 10) / 10 : Math.round(value));

/** @param {{span: string}} props */
const Charts = ({ span }) => {
  const told = useFigures(span);
  if (!told) return html`<div class="plots"><${Loading} /></div>`;
  const { to } = told;
  const here = Math.max(to, minute.value);
  const frame = { from: here - (to - told.from), to: here };
  const of = (/** @type {string} */ name, times = 1) => line(told, name, times).filter(([at]) => at >= frame.from);
  /** With what it is since: had work moved, it were asked for again. @param {Line["points"]} points @param {number | null} value */
  const on = (points, value) => /** @type {Line["points"]} */ (here - to > 60 ? [...points, [to, value], [here, value]] : points);
  const rate = 60 / told.step_s;
  const done = on(of("tasks_completed", rate), 0);
  const failed = on(of("tasks_failed", rate), 0);
  const queue = hub.value?.queue ?? {};
  const queued = /** @type {Line["points"]} */ ([...of("tasks_queued"), [here, queue.queued ?? null]]);
  const running = /** @type {Line["points"]} */ ([...of("tasks_running"), [here, (queue.running ?? 0) + (queue.assigned ?? 0)]]);
  const waits = of("oldest_wait_s");
  const [waitedAt, waited] = waits.at(-1) ?? [here, null];
  const oldest = on(waits, queue.queued ? (waited ?? 0) + here - waitedAt : 0);
  const success = of("success_rate", 100);
  const cost = of("cost_usd");
  const tokens = total(of("tokens"));
  const words = SPANS[span][2];
  const none = told.error ? `No history: ${told.error.message}` : undefined;
  const share = last(success);
  return html`<div class="plots">
    <${Chart} ...${frame} title="Throughput" now=${last(done) === null ? "\u2013" : whole(/** @type {number} */ (last(done)))} note="tasks a minute" words=${whole} empty=${none} lines=${[{ label: "completed", kind: "good", points: done }, { label: "failed", kind: "bad", points: failed }]} />
    <${Chart} ...${frame} title="Queue" now=${count(queue.queued)} note="queued, ${count((queue.running ?? 0) + (queue.assigned ?? 0))} at work" words=${whole} lines=${[{ label: "queued", kind: "wait", points: queued }, { label: "at work", kind: "run", points: running }]} />
    <${Chart} ...${frame} title="Oldest wait" now=${last(oldest) === null ? "\u2013" : length(/** @type {number} */ (last(oldest)))} note="of what is queued" words=${length} empty=${none} lines=${[{ label: "oldest wait", kind: "again", points: oldest }]} />
    <${Chart} ...${frame} title="Success" now=${share === null ? "\u2013" : `${whole(share)} %`} note="of what ended" words=${(/** @type {number} */ value) => `${whole(value)} %`} most=${100} empty=${none ?? (done.length ? "Nothing has ended in this time." : undefined)} lines=${[{ label: "success", kind: "good", points: success }]} />
    <${Chart} ...${frame} title="Spend" now=${cost.length ? money(total(cost)) : "\u2013"} note="in this time, ${count(tokens)} tokens; ${words} a point" words=${money} empty=${none} lines=${[{ label: "US dollars", kind: "run", points: cost }]} />
    <article class="plot"><header><h3>Machines</h3></header><${Machines} /></article></div>`;
};

const Machines = () => {
  const agents = tables.agents.all;
  if (!tables.agents.known.value) return html`<${Loading} />`;
  if (!agents.length) return html`<${Empty} command=${`agentcom sidecar --hub ${address} --token-file agent.token`}>No machine has joined. Start a sidecar on one:<//>`;
  const slots = agents.reduce((sum, agent) => sum + agent.slots, 0);
  const busy = agents.reduce((sum, agent) => sum + agent.busy, 0);
  const gpus = tables.gpus.all.filter((gpu) => gpu.vram_total_bytes);
  const sum = (/** @type {string} */ name) => gpus.reduce((all, gpu) => all + (gpu[name] ?? 0), 0);
  return html`<p class="big"><b class="num">${busy}<span class="muted">/${slots}</span></b> <span class="muted">slots busy, ${plural(tables.hosts.all.length, "machine")}, ${plural(agents.length, "agent")}</span></p>
    <${Bar} total=${slots} parts=${[[busy, "ours", `${busy} busy`]]} label="${busy} of ${slots} slots busy" />
    ${gpus.length ? html`<p class="muted">memory of ${plural(gpus.length, "GPU")}</p><${Bar} total=${sum("vram_total_bytes")} label="memory of all GPUs"
      parts=${[[sum("vram_ours_bytes"), "ours", "ours"], [sum("vram_foreign_bytes"), "others", "of others"]]} />` : null}
    <ul class="chips">${agents.slice(0, 12).map((agent) => html`<li key=${agent.name}><a href=${href("fleet", agent.host)}>${agent.name}</a> <${LiveState} state=${agent.state} /></li>`)}
    ${agents.length > 12 ? html`<li><a href=${href("fleet")}>and ${agents.length - 12} more</a></li>` : null}</ul>`;
};

// --- the rest ------------------------------------------------------------------------------------------------------------

const Spend = () => {
  const budgets = tables.budgets.all;
  if (!budgets.length) return html`<p class="muted">No budget is set. Bound what all work may cost a day:</p><${Command} text="agentcom budgets set hub --usd 20" />`;
  return html`<ul class="plain">${budgets.map((budget) => html`<li key=${budget.id}><b>${budget.id}</b> ${money(budget.spent.usd)}${budget.limit.usd === null ? "" : ` of ${money(budget.limit.usd)}`} today
    ${budget.limit.usd ? html`<${Bar} total=${budget.limit.usd} label="${money(budget.spent.usd)} of ${money(budget.limit.usd)}" parts=${[[budget.spent.usd, budget.spent.usd / budget.limit.usd > 0.9 ? "tight" : "ours", "spent"], [budget.reserved.usd, "held", "reserved"]]} />` : null}</li>`)}</ul><p><a href=${href("costs")}>Costs by model, submitter and project</a></p>`;
};

/** @param {{query: URLSearchParams}} props */
export default ({ query }) => {
  const health = hub.value;
  if (!health) return html`<${Loading}>Waiting for the hub\u2026<//>`;
  const span = SPANS[query.get("span") ?? ""] ? /** @type {string} */ (query.get("span")) : "hour";
  const newest = listed("newest").slice(0, 12);
  return html`<div class="head"><h1>Overview</h1><${Health} /></div>
    <section aria-labelledby="needs"><h2 id="needs">Needs you</h2><${NeedsYou} /></section>
    <section aria-labelledby="queue"><h2 id="queue">Tasks</h2><${Counts} /></section>
    <section aria-labelledby="mesh"><div class="head"><h2 id="mesh">The mesh</h2><span class="actions" role="group" aria-label="How far back">${Object.keys(SPANS).map((one) => html`<button type="button" key=${one} class="small" aria-pressed=${one === span} onClick=${() => requery({ span: one })}>last ${one}</button>`)}</span></div><${Charts} span=${span} /></section>
    <div class="columns"><section aria-labelledby="spend"><h2 id="spend">Budgets today</h2><${Spend} /></section>
    <section aria-labelledby="health"><h2 id="health">Hub</h2><p class="muted">version ${health.version}, up for ${length(between(health.started_at))}</p>
      <ul class="plain parts">${Object.entries(health.components).map(([name, part]) => html`<li key=${name}><${LiveState} state=${part.state} /> <b>${name}</b> <span class="muted">${part.detail}</span></li>`)}</ul></section></div>
    <section aria-labelledby="newest"><h2 id="newest">Newest tasks</h2>${newest.length ? html`<${TaskTable} tasks=${newest} caption="Newest tasks" />`
      : html`<${Empty} command='agentcom submit --shell "echo hello" --wait'>No task yet. Submit one:<//>`}</section>
    <section aria-labelledby="last"><h2 id="last">Last events</h2><ol class="events">${events.value.slice(0, 8).map((event) => html`<li key=${event.seq}><span class="muted"><${When} at=${event.at} /></span><span>${event.kind.replaceAll("_", " ")}</span>
      <span class="muted">${[event.agent, event.task && (tables.tasks.get(event.task)?.title || event.task)].filter(Boolean).join(" \u00b7 ")}</span></li>`)}</ol>
      <p><a href=${href("events")}>All events</a></p></section>
    <${AsApi} path=${`api/v1/metrics?names=${NAMES}`} cli="agentcom top" />`;
};
