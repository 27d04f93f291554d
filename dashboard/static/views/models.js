// @ts-check
// Which model is where, and in what state; the servers that hold them.

import { useState } from "preact/hooks";
import { computed } from "@preact/signals";
import { ask, href, isLive, may, requery, tables } from "../store.js";
import { Act, AsApi, count, Dialog, Empty, html, LiveState, Loading, say, Scroll, size, State, UNKNOWN, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */
/** A server by the key of its row, and the models it tells of. @typedef {{key: string, host: string | null, id: string, models: string[]}} Place */

/**
 * What the tables are laid out by, as a text: it is the same as long as no server and no model comes or goes, so what
 * else a server tells of draws its own cells again and nothing beside them.
 */
const layout = computed(() => JSON.stringify(tables.endpoints.all.map((one) => ({ key: `${one.host ?? ""} ${one.id}`, host: one.host, id: one.id, models: one.models.map((/** @type {Row} */ model) => model.name) }))));

/** A model at a server. @param {{of: string, name: string, label: string}} props */
const Cell = ({ of, name, label }) => {
  const model = tables.endpoints.get(of)?.models.find((/** @type {Row} */ each) => each.name === name);
  if (!model) return html`<td class="absent" data-label=${label}><span class="muted"><span aria-hidden="true">\u00b7</span> absent</span></td>`;
  const words = [model.size_bytes ? `${size(model.size_bytes)} on disk` : "", model.vram_bytes ? `${size(model.vram_bytes)} of VRAM` : model.resident_bytes ? `${size(model.resident_bytes)} of RAM` : "",
    model.context ? `${count(model.context)} context` : model.max_context ? `${count(model.max_context)} context at most` : "", model.tokens_per_s ? `${model.tokens_per_s < 10 ? model.tokens_per_s.toFixed(1) : model.tokens_per_s.toFixed(0)} tokens/s` : ""].filter(Boolean);
  return html`<td data-label=${label}><${State} state=${model.residency} />${model.expires_at && model.residency === "warm" ? html` <span class="muted">leaves <${When} at=${model.expires_at} /></span>` : null}
    <div class="muted">${words.map((one) => html`<span key=${one} class="fact">${one}</span> `)}<span class="fact">${model.last_used_at ? html`used <${When} at=${model.last_used_at} />` : "not used yet"}</span></div></td>`;
};

/** @param {{of: string}} props */
const Server = ({ of }) => {
  const one = tables.endpoints.get(of) ?? {};
  return html`${one.host ? html`<a href=${href("fleet", one.host)}>${one.host}</a>` : one.id}<div class="muted">${one.host ? one.id : "added by hand"}${isLive.value && one.state === "up" ? null : html` <${LiveState} state=${one.state} />`}</div>`;
};

/** Machines by models; the longer side goes down the page. @param {{places: Place[], names: string[]}} props */
const Matrix = ({ places, names }) => {
  const isWide = places.length > Math.max(6, names.length);
  return html`<${Scroll} label="Models by machine"><table class="matrix stack"><caption class="hidden">Models by machine</caption>
    <thead><tr><th scope="col">${isWide ? "Machine" : "Model"}</th>${isWide ? names.map((name) => html`<th scope="col" key=${name}>${name}</th>`) : places.map(({ key }) => html`<th scope="col" key=${key}><${Server} of=${key} /></th>`)}</tr></thead>
    <tbody>${isWide ? places.map(({ key }) => html`<tr key=${key}><th scope="row"><${Server} of=${key} /></th>${names.map((name) => html`<${Cell} key=${name} of=${key} name=${name} label=${name} />`)}</tr>`)
    : names.map((name) => html`<tr key=${name}><th scope="row">${name}</th>${places.map(({ key, host, id }) => html`<${Cell} key=${key} of=${key} name=${name} label=${host ? `${host}, ${id}` : id} />`)}</tr>`)}</tbody></table><//>`;
};

/** @param {{close: () => void}} props */
const Add = ({ close }) => {
  const [error, setError] = useState("");
  const add = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    /** @type {Row} */ const body = { kind: form.get("kind"), url: form.get("url") };
    if (form.get("id")) body.id = form.get("id");
    if (form.get("default_model")) body.default_model = form.get("default_model");
    try { const made = await ask("endpoints", { method: "POST", body }); say(`${made.id} is added`); close(); } catch (problem) { setError(/** @type {Error} */ (problem).message); }
  };
  return html`<form class="form" onSubmit=${add}><label>Kind <select name="kind">${["ollama", "openai", "anthropic", "gemini"].map((kind) => html`<option key=${kind}>${kind}</option>`)}</select></label>
    <label>Address <input name="url" type="url" required placeholder="http://box:11434" /></label><label>Name (made from the address if empty) <input name="id" /></label>
    <label>Model for tasks that name none <input name="default_model" /></label>${error ? html`<p class="trouble" role="alert">${error}</p>` : null}
    <p class="muted">Keys stay with the machines that use them: they are in the settings of a sidecar, never here.</p><p class="actions"><button class="main">Add</button></p></form>`;
};

/** @param {{of: string}} props */
const Endpoint = ({ of }) => {
  const one = tables.endpoints.get(of);
  return one && html`<tr><th scope="row">${one.id}<div class="muted">${one.kind}, ${one.local ? "local" : "cloud"}${one.host ? html`, on <a href=${href("fleet", one.host)}>${one.host}</a>` : ""}</div></th><td><${LiveState} state=${one.state} /></td><td data-label="health"><${State} state=${one.health || "unknown"} />${one.detail ? html`<div class="reason">${one.detail}</div>` : null}${one.until ? html`<div class="muted">tried again <${When} at=${one.until} /></div>` : null}</td>
  <td><code>${one.url}</code></td><td class="num" data-label="at a time">${one.parallel || one.turns || UNKNOWN}${one.rpm || one.tpm ? html`<div class="muted">${[one.rpm ? `${one.rpm} requests` : "", one.tpm ? `${count(one.tpm)} tokens` : ""].filter(Boolean).join(", ")} a minute</div>` : null}</td>
  <td data-label="used by">${one.agents.join(", ") || "nobody"}</td><td class="nowrap" data-label="last used"><${When} at=${one.last_used_at} /></td><td class="nowrap" data-label="checked"><${When} at=${one.checked_at} /></td><td>${one.host && one.agents.length ? null : html`<${Act} path=${`endpoints/${encodeURIComponent(one.id)}`} method="DELETE" permission="endpoints:write" sure=${`Forget ${one.id}?`}>Remove<//>`}</td></tr>`;
};

/** @param {{query: URLSearchParams}} props */
export default ({ query }) => {
  const [adds, setAdds] = useState(false);
  const text = query.get("q") ?? "";
  const is = (/** @type {string} */ one) => one.toLowerCase().includes(text.toLowerCase());
  const all = /** @type {Place[]} */ (JSON.parse(layout.value));
  const known = [...new Set(all.flatMap(({ models }) => models))].sort();
  // A name of a machine shows all its models, a name of a model all its machines.
  const servers = all.filter(({ key }) => is(key));
  const places = text && servers.length ? servers : all;
  const there = new Set(places.flatMap(({ models }) => models));
  const names = (text && !servers.length ? known.filter(is) : known).filter((name) => there.has(name));
  return html`<h1>Models</h1><div class="filters" role="search"><label>Model, machine or endpoint <input type="search" value=${text} onInput=${(/** @type {any} */ event) => requery({ q: event.target.value })} /></label>
    ${may("endpoints:write") ? html`<button type="button" class="main" onClick=${() => setAdds(true)}>Add an endpoint</button>` : null}</div>
    ${adds ? html`<${Dialog} title="Add an endpoint" close=${() => setAdds(false)}><${Add} close=${() => setAdds(false)} /><//>` : null}
    ${!tables.endpoints.known.value ? html`<${Loading} />` : !all.length ? html`<${Empty} command="agentcom endpoints add ollama http://127.0.0.1:11434">No endpoint yet. A sidecar reports an Ollama beside it by itself; tell of another one:<//>`
      : html`${names.length ? html`<${Matrix} places=${places} names=${names} />` : text ? html`<${Empty}>No model is like that. <button type="button" onClick=${() => requery({})}>Show all</button><//>` : html`<p class="muted">No server has told of a model yet.</p>`}
    <section aria-labelledby="endpoints"><h2 id="endpoints">Endpoints</h2><${Scroll} label="Endpoints"><table class="stack"><caption class="hidden">Endpoints</caption><thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col">Health</th><th scope="col">Address</th><th scope="col">At a time</th><th scope="col">Used by</th><th scope="col">Last used</th><th scope="col">Checked</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${places.map(({ key }) => html`<${Endpoint} key=${key} of=${key} />`)}</tbody></table><//></section>`}
    <${AsApi} path="api/v1/models?absent=true" cli="agentcom models" />`;
};
