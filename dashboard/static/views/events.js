// @ts-check
// Everything that happened, as it happens; older pages on demand. Beside it who did what.

import { useState } from "preact/hooks";
import { ask, events, href, me, requery, tables } from "../store.js";
import { AsApi, count, Empty, flags, html, Loading, say, Scroll, State, Trouble, useAsked, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

/** What more there is to say, in a line; what says nothing is left out, and of the hub itself there is but one name. @param {Row} told */
const facts = (told) => Object.entries(told).filter(([name, value]) => name !== "hub" && value !== null && value !== "" && !(Array.isArray(value) && !value.length)).map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" \u00b7 ");

/** Who did what, in an order that nobody can change unseen. @param {{query: URLSearchParams}} props */
const Audit = ({ query }) => {
  const names = /** @type {const} */ (["actor", "action", "subject"]);
  /** @type {Record<string, string>} */ const asked = {};
  for (const name of names) { const value = query.get(name); if (value) asked[name] = value; }
  const { told, error, again } = useAsked(`audit?${new URLSearchParams({ ...asked, limit: "200" })}`);
  const [verdict, setVerdict] = useState(/** @type {Row | null} */ (null));
  const verify = async () => { try { setVerdict(await ask("audit/verify")); } catch (problem) { say(/** @type {Error} */ (problem).message, "trouble"); } };
  const input = (/** @type {string} */ name) => html`<label>${name[0].toUpperCase() + name.slice(1)} <input type="search" value=${asked[name] ?? ""} onChange=${(/** @type {any} */ event) => requery({ ...asked, [name]: event.target.value.trim() })} /></label>`;
  if (!me.value.may.includes("audit:read")) return html`<p class="muted">The audit log is for administrators and operators; your role is ${me.value.role}.</p>`;
  return html`<div class="filters" role="search">${names.map(input)}<button type="button" onClick=${verify}>Verify the chain</button>
    ${verdict ? html`<span role="status"><${State} state=${verdict.ok ? "ok" : "failed"}>${verdict.ok ? `${count(verdict.entries)} entries, nothing was changed` : verdict.problems.join("; ")}<//></span>` : null}</div>
    ${!told ? (error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`) : told.entries.length ? html`<${Scroll} label="Audit"><table class="stack"><caption class="hidden">Audit</caption><thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">Of what</th><th scope="col">Verdict</th><th scope="col">More</th><th scope="col">Hash</th></tr></thead><tbody>
    ${told.entries.map((/** @type {Row} */ one) => html`<tr key=${one.seq}><td class="nowrap"><${When} at=${one.at} /></td><td data-label="by" title=${one.actor}>${one.actor_label || one.actor || "somebody unknown"} <span class="muted">${one.role}</span></td><td class="nowrap"><b>${one.action}</b></td><td data-label="of">${one.subject}</td><td><${State} state=${one.verdict === "refused" ? "failed" : "ok"}>${one.verdict}<//></td><td class="muted">${facts(one.detail)}</td><td class="nowrap" data-label="hash"><code title=${one.hash}>${String(one.hash).slice(0, 10)}</code></td></tr>`)}</tbody></table><//>`
    : html`<${Empty}>No entry is like that. <button type="button" onClick=${() => requery({})}>Show all</button><//>`}<${AsApi} path=${`api/v1/audit?${new URLSearchParams(asked)}`} cli=${`agentcom audit ls${flags(asked)}`} />`;
};

/** @param {{id: string, query: URLSearchParams}} props */
export default ({ id, query }) => html`<h1>${id === "audit" ? "Audit" : "Events"}</h1>${me.value.may.includes("audit:read") ? html`<nav class="tabs" aria-label="Events"><a href=${href("events")} aria-current=${id === "audit" ? undefined : "page"}>What happened</a><a href=${href("events", "audit")} aria-current=${id === "audit" ? "page" : undefined}>Who did it</a></nav>` : null}
  ${id === "audit" ? html`<${Audit} query=${query} />` : html`<${Events} query=${query} />`}`;

/** Waits for the row of its task while there is none, and is then drawn again with nothing but that row. @param {string} task */
const titleOf = (task) => {
  const row = tables.tasks.rows.get(task);
  return row ? row.value.title : tables.tasks.keys.value && "";
};

/** A part of its own: hundreds of lines stay as they are when one comes. @param {{event: Row}} props */
const Line = ({ event }) => html`<li><span class="muted nowrap"><${When} at=${event.at} /></span><span>${event.kind.replaceAll("_", " ")}</span>
  <span>${event.task ? html`<a href=${href("tasks", event.task)}>${titleOf(event.task) || event.task}</a> ` : null}<span class="muted">${[event.agent, event.epoch ? `attempt ${event.epoch}` : "", facts(event.facts)].filter(Boolean).join(" \u00b7 ")}</span></span></li>`;

/** @param {{query: URLSearchParams}} props */
const Events = ({ query }) => {
  const kind = query.get("kind") ?? "";
  const text = query.get("q") ?? "";
  const [older, setOlder] = useState(/** @type {Row[]} */ ([]));
  const [paused, setPaused] = useState(/** @type {Row[] | null} */ (null));
  const all = [...(paused ?? events.value), ...older];
  const wanted = text.toLowerCase();
  const kinds = [...new Set(all.map((event) => event.kind))].sort();
  const shown = all.filter((event) => (!kind || event.kind === kind) && (!wanted || JSON.stringify([event.kind, event.agent, event.task, tables.tasks.get(event.task)?.title, event.facts]).toLowerCase().includes(wanted)));
  const more = async () => {
    const first = all.at(-1)?.seq ?? 1;
    try {
      const told = await ask(`events?after=${Math.max(0, first - 501)}&limit=500`);
      const found = told.events.filter((/** @type {Row} */ event) => event.seq < first).reverse();
      if (found.length) setOlder([...older, ...found]); else say("There is nothing older.");
    } catch (error) { say(/** @type {Error} */ (error).message, "trouble"); }
  };
  return html`<div class="filters" role="search"><label>Find <input type="search" value=${text} onInput=${(/** @type {any} */ event) => requery({ kind, q: event.target.value })} /></label>
    <label>Kind <select value=${kind} onChange=${(/** @type {any} */ event) => requery({ kind: event.target.value, q: text })}><option value="">any</option>${kinds.map((one) => html`<option key=${one} value=${one} selected=${one === kind}>${one.replaceAll("_", " ")}</option>`)}</select></label>
    <button type="button" aria-pressed=${paused !== null} onClick=${() => setPaused(paused ? null : events.value)}>${paused ? "Go on" : "Pause"}</button><span class="muted">${count(shown.length)} of ${count(all.length)} that are here</span></div>
    ${shown.length ? html`<ol class="events rows">${shown.map((event) => html`<${Line} key=${event.seq} event=${event} />`)}</ol>` : html`<${Empty}>No event is like that. <button type="button" onClick=${() => requery({})}>Show all</button><//>`}
    <p><button type="button" onClick=${more}>Older ones</button></p><${AsApi} path=${`api/v1/events${kind ? `?kind=${kind}` : ""}`} cli=${`agentcom events --follow${flags({ kind })}`} />`;
};
