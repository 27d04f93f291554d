// @ts-check
// Which model is where, and in what state; the servers that hold them.

import { useState } from "preact/hooks";
import { ask, may, tables } from "../store.js";
import { Act, AsApi, count, Dialog, Empty, html, LiveState, Loading, say, Scroll, size, State, UNKNOWN, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

/** @param {{model: Row | undefined}} props */
const Cell = ({ model }) => {
  if (!model) return html`<span class="muted"><span aria-hidden="true">\u00b7</span> absent</span>`;
  const words = [model.vram_bytes ? `${size(model.vram_bytes)} VRAM` : model.resident_bytes ? `${size(model.resident_bytes)} RAM` : model.size_bytes ? `${size(model.size_bytes)} on disk` : "",
    model.context ? `${count(model.context)} context` : "", model.tokens_per_s ? `${model.tokens_per_s.toFixed(0)} tokens/s` : ""].filter(Boolean);
  return html`<${State} state=${model.residency} /><div class="muted">${words.join(", ")}${model.expires_at ? html` until <${When} at=${model.expires_at} />` : ""}</div>`;
};

const Matrix = () => {
  const endpoints = tables.endpoints.all;
  const names = [...new Set(endpoints.flatMap((one) => one.models.map((/** @type {Row} */ model) => model.name)))].sort();
  if (!names.length) return html`<p class="muted">No server has told of a model yet.</p>`;
  return html`<${Scroll} label="Models by server"><table class="matrix"><caption class="hidden">Models by server</caption><thead><tr><th scope="col">Model</th>${endpoints.map((one) => html`<th scope="col" key=${one.id}>${one.id}${one.host ? html`<div class="muted">on ${one.host}</div>` : null}</th>`)}</tr></thead>
    <tbody>${names.map((name) => html`<tr key=${name}><th scope="row">${name}</th>${endpoints.map((one) => html`<td key=${one.id}><${Cell} model=${one.models.find((/** @type {Row} */ model) => model.name === name)} /></td>`)}</tr>`)}</tbody></table><//>`;
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

export default () => {
  const endpoints = tables.endpoints.all;
  const [adds, setAdds] = useState(false);
  return html`<h1>Models</h1>${may("endpoints:write") ? html`<p class="actions"><button type="button" class="main" onClick=${() => setAdds(true)}>Add an endpoint</button></p>` : null}
    ${adds ? html`<${Dialog} title="Add an endpoint" close=${() => setAdds(false)}><${Add} close=${() => setAdds(false)} /><//>` : null}
    ${!tables.endpoints.known.value ? html`<${Loading} />` : !endpoints.length ? html`<${Empty} command="agentcom endpoints add ollama http://127.0.0.1:11434">No endpoint yet. A sidecar reports an Ollama beside it by itself; tell of another one:<//>` : html`<${Matrix} />
    <section aria-labelledby="endpoints"><h2 id="endpoints">Endpoints</h2><${Scroll} label="Endpoints"><table><caption class="hidden">Endpoints</caption><thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col">Health</th><th scope="col">Address</th><th scope="col">At a time</th><th scope="col">Used by</th><th scope="col">Checked</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${endpoints.map((one) => html`<tr key=${one.id}><th scope="row">${one.id}<div class="muted">${one.kind}, ${one.local ? "local" : "cloud"}</div></th><td><${LiveState} state=${one.state} /></td><td><${State} state=${one.health || "unknown"} />${one.detail ? html`<div class="reason">${one.detail}</div>` : null}${one.until ? html`<div class="muted">until <${When} at=${one.until} /></div>` : null}</td>
      <td><code>${one.url}</code></td><td class="num">${one.parallel || one.turns || UNKNOWN}${one.rpm || one.tpm ? html`<div class="muted">${[one.rpm ? `${one.rpm} requests` : "", one.tpm ? `${count(one.tpm)} tokens` : ""].filter(Boolean).join(", ")} a minute</div>` : null}</td>
      <td>${one.agents.join(", ") || "nobody"}</td><td class="nowrap"><${When} at=${one.checked_at} /></td><td>${one.host ? null : html`<${Act} path=${`endpoints/${encodeURIComponent(one.id)}`} method="DELETE" permission="endpoints:write" sure=${`Forget ${one.id}?`}>Remove<//>`}</td></tr>`)}</tbody></table><//></section>`}
    <${AsApi} path="api/v1/endpoints" cli="agentcom endpoints" />`;
};
