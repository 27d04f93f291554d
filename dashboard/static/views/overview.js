// @ts-check
// Is it healthy, and what needs me?

import { address, events, href, hub, listed, tables } from "../store.js";
import { AsApi, Bar, Command, count, Empty, html, LiveState, Loading, money, plural, State, TaskTable, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

const Counts = () => {
  const queue = hub.value?.queue;
  const shown = ["blocked", "queued", "assigned", "running", "waiting", "completed", "failed", "dead", "cancelled"];
  return html`<ul class="counts" aria-label="Tasks by state">${shown.map((state) => html`<li key=${state} class=${queue?.[state] ? "" : "none"}><a href=${href("tasks", "", { state })}>
    <b class="num">${count(queue?.[state])}</b><${State} state=${state} /></a></li>`)}</ul>`;
};

const NeedsYou = () => {
  const waiting = listed("waiting");
  const troubled = listed("troubled").slice(0, 5);
  const parts = Object.entries(hub.value?.components ?? {}).filter(([, part]) => part.state !== "ok");
  const down = tables.endpoints.all.filter((one) => one.state === "down");
  if (!waiting.length && !troubled.length && !parts.length && !down.length) return html`<p class="calm"><${State} state="ok">nothing needs you<//></p>`;
  return html`<ul class="needs rows">
    ${waiting.slice(0, 5).map((/** @type {Row} */ task) => html`<li key=${task.id}><${State} state="waiting">waits for a person<//> <a href=${href("reviews", task.id)}>${task.title || task.id}</a> <span class="reason">${task.reason}</span></li>`)}
    ${parts.map(([name, part]) => html`<li key=${name}><${State} state=${part.state} /> <b>${name}</b> <span class="reason">${part.detail}</span></li>`)}
    ${down.map((one) => html`<li key=${one.id}><${State} state="down" /> <a href=${href("models")}>${one.id}</a> <span class="reason">${one.detail}</span></li>`)}
    ${troubled.map((/** @type {Row} */ task) => html`<li key=${task.id}><${State} state=${task.state} /> <a href=${href("tasks", task.id)}>${task.title || task.id}</a> <span class="reason">${task.reason}</span> <span class="muted"><${When} at=${task.ended_at} /></span></li>`)}</ul>`;
};

const Machines = () => {
  const agents = tables.agents.all;
  if (!tables.agents.known.value) return html`<${Loading} />`;
  if (!agents.length) return html`<${Empty} command=${`agentcom sidecar --hub ${address} --token-file agent.token`}>No machine has joined. Start a sidecar on one:<//>`;
  const slots = agents.reduce((sum, agent) => sum + agent.slots, 0);
  const busy = agents.reduce((sum, agent) => sum + agent.busy, 0);
  const gpus = tables.gpus.all.filter((gpu) => gpu.vram_total_bytes);
  const sum = (/** @type {string} */ name) => gpus.reduce((all, gpu) => all + (gpu[name] ?? 0), 0);
  return html`<p>${plural(tables.hosts.all.length, "machine")}, ${plural(agents.length, "agent")}; ${busy} of ${slots} slots busy</p>
    <${Bar} total=${slots} parts=${[[busy, "ours", `${busy} busy`]]} label="${busy} of ${slots} slots busy" />
    ${gpus.length ? html`<p>${plural(gpus.length, "GPU")}</p><${Bar} total=${sum("vram_total_bytes")} label="memory of all GPUs"
      parts=${[[sum("vram_ours_bytes"), "ours", "ours"], [sum("vram_foreign_bytes"), "others", "of others"]]} />` : null}
    <ul class="chips">${agents.slice(0, 24).map((agent) => html`<li key=${agent.name}><a href=${href("fleet", agent.host)}>${agent.name}</a> <${LiveState} state=${agent.state} /></li>`)}
    ${agents.length > 24 ? html`<li><a href=${href("fleet")}>and ${agents.length - 24} more</a></li>` : null}</ul>`;
};

const Spend = () => {
  const budgets = tables.budgets.all;
  if (!budgets.length) return html`<p class="muted">No budget is set. <${Command} text="agentcom budgets set hub --usd 20" /></p>`;
  return html`<ul class="plain">${budgets.map((budget) => html`<li key=${budget.id}><b>${budget.id}</b> ${money(budget.spent.usd)}${budget.limit.usd === null ? "" : ` of ${money(budget.limit.usd)}`} today
    ${budget.limit.usd ? html`<${Bar} total=${budget.limit.usd} label="${money(budget.spent.usd)} of ${money(budget.limit.usd)}" parts=${[[budget.spent.usd, budget.spent.usd / budget.limit.usd > 0.9 ? "tight" : "ours", "spent"], [budget.reserved.usd, "held", "reserved"]]} />` : null}</li>`)}</ul>`;
};

export default () => {
  const health = hub.value;
  if (!health) return html`<${Loading}>Waiting for the hub\u2026<//>`;
  const newest = listed("newest").slice(0, 15);
  const oldest = listed("newest").filter((/** @type {Row} */ task) => task.state === "queued").at(-1);
  return html`<h1>Overview</h1>
    <section aria-labelledby="needs"><h2 id="needs">Needs you</h2><${NeedsYou} /></section>
    <section aria-labelledby="queue"><h2 id="queue">Queue</h2><${Counts} />${oldest ? html`<p class="muted">Of the newest ${listed("newest").length} tasks, the one that has waited longest came <${When} at=${oldest.submitted_at} />.</p>` : null}</section>
    <div class="columns"><section aria-labelledby="machines"><h2 id="machines">Machines</h2><${Machines} /></section>
    <section aria-labelledby="spend"><h2 id="spend">Spent today</h2><${Spend} /></section>
    <section aria-labelledby="health"><h2 id="health">Hub</h2><p><${LiveState} state=${health.state} /> version ${health.version}, up since <${When} at=${health.started_at} /></p>
      <ul class="plain">${Object.entries(health.components).map(([name, part]) => html`<li key=${name}><${LiveState} state=${part.state} /> <b>${name}</b> <span class="muted">${part.detail}</span></li>`)}</ul></section></div>
    <section aria-labelledby="newest"><h2 id="newest">Newest tasks</h2>${newest.length ? html`<${TaskTable} tasks=${newest} caption="Newest tasks" />`
      : html`<${Empty} command='agentcom submit --shell "echo hello" --wait'>No task yet. Submit one:<//>`}</section>
    <section aria-labelledby="last"><h2 id="last">Last events</h2><ol class="events">${events.value.slice(0, 10).map((event) => html`<li key=${event.seq}><span class="muted"><${When} at=${event.at} /></span><span>${event.kind.replaceAll("_", " ")}</span>
      <span class="muted">${[event.agent, event.task && (tables.tasks.get(event.task)?.title || event.task)].filter(Boolean).join(" \u00b7 ")}</span></li>`)}</ol>
      <p><a href=${href("events")}>All events</a></p></section>
    <${AsApi} path="api/v1/health" cli="agentcom doctor" />`;
};
