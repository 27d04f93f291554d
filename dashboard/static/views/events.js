// @ts-check
// Everything that happened, as it happens; older pages on demand.

import { useState } from "preact/hooks";
import { ask, events, href, requery, tables } from "../store.js";
import { AsApi, count, Empty, html, say, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

/** @param {Row} event */
const facts = (event) => Object.entries(event.facts).filter(([, value]) => value !== null && value !== "").map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" \u00b7 ");

/** @param {{query: URLSearchParams}} props */
export default ({ query }) => {
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
  return html`<h1>Events</h1><div class="filters" role="search"><label>Find <input type="search" value=${text} onInput=${(/** @type {any} */ event) => requery({ kind, q: event.target.value })} /></label>
    <label>Kind <select value=${kind} onChange=${(/** @type {any} */ event) => requery({ kind: event.target.value, q: text })}><option value="">any</option>${kinds.map((one) => html`<option key=${one} value=${one} selected=${one === kind}>${one.replaceAll("_", " ")}</option>`)}</select></label>
    <button type="button" aria-pressed=${paused !== null} onClick=${() => setPaused(paused ? null : events.value)}>${paused ? "Go on" : "Pause"}</button><span class="muted">${count(shown.length)} of ${count(all.length)} that are here</span></div>
    ${shown.length ? html`<ol class="events rows">${shown.map((event) => html`<li key=${event.seq}><span class="muted nowrap"><${When} at=${event.at} /></span><span>${event.kind.replaceAll("_", " ")}</span>
      <span>${event.task ? html`<a href=${href("tasks", event.task)}>${tables.tasks.get(event.task)?.title || event.task}</a> ` : null}<span class="muted">${[event.agent, event.epoch ? `attempt ${event.epoch}` : "", facts(event)].filter(Boolean).join(" \u00b7 ")}</span></span></li>`)}</ol>` : html`<${Empty}>No event is like that.<//>`}
    <p><button type="button" onClick=${more}>Older ones</button></p><${AsApi} path="api/v1/events" cli="agentcom events --follow" />`;
};
