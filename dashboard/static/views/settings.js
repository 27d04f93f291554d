// @ts-check
// Tokens, backups, and what this hub is.

import { useState } from "preact/hooks";
import { ask, hub, me } from "../store.js";
import { Act, AsApi, Command, html, Loading, say, Scroll, size, State, Trouble, useAsked, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

const Tokens = () => {
  const { told, error, again } = useAsked("tokens");
  const [made, setMade] = useState("");
  const make = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    /** @type {Row} */ const body = { role: form.get("role"), label: form.get("label") };
    if (form.get("hours")) body.ttl_s = Number(form.get("hours")) * 3600;
    try { setMade((await ask("tokens", { method: "POST", body })).token); again(); } catch (problem) { say(/** @type {Error} */ (problem).message, "trouble"); }
  };
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`<${Scroll} label="Tokens"><table><caption class="hidden">Tokens</caption><thead><tr><th scope="col">Label</th><th scope="col">Role</th><th scope="col">Id</th><th scope="col">Made</th><th scope="col">Last used</th><th scope="col">Ends</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${told.tokens.map((/** @type {Row} */ one) => html`<tr key=${one.id}><th scope="row">${one.label || "no label"}</th><td>${one.role}</td><td><code>${one.id}</code></td><td><${When} at=${one.created_at} /></td><td><${When} at=${one.last_used_at} /></td>
      <td>${one.revoked_at ? html`<${State} state="cancelled">revoked<//>` : one.expires_at ? html`<${When} at=${one.expires_at} />` : "never"}</td><td>${one.revoked_at ? null : html`<${Act} path=${`tokens/${one.id}`} method="DELETE" permission="tokens:manage" sure=${`Revoke the token ${one.label || one.id}? Whoever uses it is cut off.`} done=${again}>Revoke<//>`}</td></tr>`)}</tbody></table><//>
    <form class="form line" onSubmit=${make}><label>Role <select name="role">${["viewer", "submitter", "operator", "agent", "admin"].map((role) => html`<option key=${role}>${role}</option>`)}</select></label><label>Label <input name="label" required /></label><label>Hours (empty: for ever) <input name="hours" type="number" min="0" step="any" /></label><button class="main">Make a token</button></form>
    ${made ? html`<p role="status">It is shown only now: <${Command} text=${made} /></p>` : null}`;
};

const Backups = () => {
  const { told, error, again } = useAsked("backups");
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`${told.backups.length ? html`<ul class="plain">${told.backups.map((/** @type {Row} */ one) => html`<li key=${one.name}><code>${one.path}</code> <span class="muted">${size(one.size_bytes)}, <${When} at=${one.at} /></span></li>`)}</ul>` : html`<p class="muted">No backup yet.</p>`}
    <p class="actions"><${Act} path="backups" permission="backups:manage" done=${() => { say("A backup is made"); again(); }}>Make a backup now<//></p>`;
};

export default () => html`<h1>Settings</h1>
  ${me.value.may.includes("tokens:manage") ? html`<section aria-labelledby="tokens"><h2 id="tokens">Tokens</h2><${Tokens} /></section><section aria-labelledby="backups"><h2 id="backups">Backups</h2><${Backups} /></section>`
    : html`<p class="muted">Tokens and backups are shown to administrators; your role is ${me.value.role}.</p>`}
  <section aria-labelledby="about"><h2 id="about">About</h2><p>AgentCom ${hub.value?.version}, up since <${When} at=${hub.value?.started_at} />. You are ${me.value.label || "logged in"} (${me.value.role}). <a href="docs">The API</a></p></section>
  <${AsApi} path="api/v1/tokens" cli="agentcom token ls" />`;
