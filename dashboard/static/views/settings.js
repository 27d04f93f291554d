// @ts-check
// Tokens, backups, and what this hub is.

import { useState } from "preact/hooks";
import { ask, CHOICES, clockMode, href, hub, me, singleKeys, theme } from "../store.js";
import { Act, AsApi, Command, count, html, Loading, say, Scroll, size, State, Trouble, useAsked, When } from "../ui.js";

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
  return html`<${Scroll} label="Tokens"><table class="stack"><caption class="hidden">Tokens</caption><thead><tr><th scope="col">Label</th><th scope="col">Role</th><th scope="col">Id</th><th scope="col">Made</th><th scope="col">Last used</th><th scope="col">Ends</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${told.tokens.map((/** @type {Row} */ one) => html`<tr key=${one.id}><th scope="row">${one.label || "no label"}</th><td data-label="role">${one.role}</td><td data-label="id"><code>${one.id}</code></td><td data-label="made"><${When} at=${one.created_at} /></td><td data-label="last used"><${When} at=${one.last_used_at} /></td>
      <td data-label="ends">${one.revoked_at ? html`<${State} state="cancelled">revoked<//>` : one.expires_at ? html`<${When} at=${one.expires_at} />` : "never"}</td><td>${one.revoked_at ? null : html`<${Act} path=${`tokens/${one.id}`} method="DELETE" permission="tokens:manage" sure=${`Revoke the token ${one.label || one.id}? Whoever uses it is cut off.`} done=${again}>Revoke<//>`}</td></tr>`)}</tbody></table><//>
    <form class="form line" onSubmit=${make}><label>Role <select name="role">${["viewer", "submitter", "operator", "agent", "admin"].map((role) => html`<option key=${role}>${role}</option>`)}</select></label><label>Label <input name="label" required /></label><label>Hours (empty: for ever) <input name="hours" type="number" min="0" step="any" /></label><button class="main">Make a token</button></form>
    ${made ? html`<p role="status">It is shown only now: <${Command} text=${made} /></p>` : null}`;
};

const Backups = () => {
  const { told, error, again } = useAsked("backups");
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`${told.backups.length ? html`<ul class="plain">${told.backups.map((/** @type {Row} */ one) => html`<li key=${one.name}><code>${one.path}</code> <span class="muted">${size(one.size_bytes)}, <${When} at=${one.at} /></span></li>`)}</ul>` : html`<p class="muted">No backup yet. In a terminal: <code>agentcom backup</code></p>`}
    <p class="actions"><${Act} path="backups" permission="backups:manage" done=${() => { say("A backup is made"); again(); }}>Make a backup now<//></p>`;
};

const Limits = () => {
  const { told, error, again } = useAsked("rate-limits");
  const set = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const body = { per_s: Number(form.get("per_s")), burst: Number(form.get("burst")) };
    try { await ask(`rate-limits/${form.get("action")}`, { method: "PATCH", body }); say("The limit counts from now on"); again(); } catch (problem) { say(/** @type {Error} */ (problem).message, "trouble"); }
  };
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  const may = me.value.may.includes("rates:write");
  const reset = (/** @type {string} */ id, /** @type {boolean} */ is) => is ? html`<${Act} path=${`rate-limits/${id}`} method="DELETE" permission="rates:write" done=${again}>Back to usual<//>` : null;
  return html`<${Scroll} label="Rate limits"><table class="stack"><caption class="hidden">Rate limits</caption><thead><tr><th scope="col">Who</th><th scope="col">Class</th><th scope="col">A second</th><th scope="col">At once</th><th scope="col">Refused</th><th scope="col">Shut out</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${told.limits.map((/** @type {Row} */ one) => html`<tr key=${one.action}><th scope="row">${one.action === "stranger" ? "each address" : "each token"}</th><td data-label="class">${one.action}</td><td class="num" data-label="a second">${count(one.per_s)}</td><td class="num" data-label="at once">${count(one.burst)}</td><td class="num" data-label="refused">${count(one.refused)}</td><td></td><td>${reset(one.action, !!one.changed_at)}</td></tr>`)}
    ${told.callers.map((/** @type {Row} */ one) => html`<tr key=${one.caller + one.action}><th scope="row">${one.label || html`<code>${one.caller}</code>`}</th><td data-label="class">${one.action}</td><td class="num" data-label="a second">${count(one.per_s)}</td><td class="num" data-label="at once">${count(one.burst)}</td><td class="num" data-label="refused">${count(one.refused)}</td><td data-label="shut out">${one.wait_s ? html`<${State} state="failed">${one.wait_s} s<//>` : "no"}</td><td>${reset(one.caller, one.is_own)}</td></tr>`)}</tbody></table><//>
    ${may ? html`<form class="form line" onSubmit=${set}><label>Class <select name="action">${told.limits.map((/** @type {Row} */ one) => html`<option key=${one.action}>${one.action}</option>`)}</select></label><label>A second <input name="per_s" type="number" min="0.01" max="1000000" step="any" required /></label><label>At once <input name="burst" type="number" min="1" max="1000000" required /></label><button class="main">Set the limit</button></form>` : null}`;
};

/** Tokens that let one more machine in, and are burned by it. */
const JoinTokens = () => {
  const { told, error, again } = useAsked("join-tokens");
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  const tokens = /** @type {Row[]} */ (told.join_tokens);
  if (!tokens.length) return html`<p class="muted">No join token is open. <a href=${href("fleet")}>Add a machine</a> makes one.</p>`;
  return html`<${Scroll} label="Join tokens"><table class="stack"><caption class="hidden">Join tokens</caption><thead><tr><th scope="col">Label</th><th scope="col">State</th><th scope="col">Used</th><th scope="col">Made</th><th scope="col">Ends</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${tokens.map((one) => html`<tr key=${one.id}><th scope="row">${one.label || html`<code>${one.id}</code>`}</th><td><${State} state=${one.state === "good" ? "ok" : "cancelled"}>${one.state}<//></td><td class="num" data-label="used">${one.used} of ${one.uses}</td><td data-label="made"><${When} at=${one.created_at} /></td><td data-label="ends"><${When} at=${one.expires_at} /></td>
      <td>${one.state !== "good" ? null : html`<${Act} path=${`join-tokens/${one.id}`} method="DELETE" permission="machines:manage" sure="Revoke this join token? No machine can join with it any more." done=${again}>Revoke<//>`}</td></tr>`)}</tbody></table><//>`;
};

/** @param {{words: string, choice: {value: string}, values: string[]}} props */
const Choice = ({ words, choice, values }) => html`<div class="actions choice" role="group" aria-label=${words}><span class="muted">${words}</span> ${values.map((one) => html`<button type="button" class="small" key=${one} aria-pressed=${choice.value === one} onClick=${() => { choice.value = one; }}>${one}</button>`)}</div>`;

export default () => html`<h1>Settings</h1>
  ${me.value.may.includes("tokens:manage") ? html`<section aria-labelledby="tokens"><h2 id="tokens">Tokens</h2><${Tokens} /></section><section aria-labelledby="backups"><h2 id="backups">Backups</h2><${Backups} /></section>`
    : html`<p class="muted">Tokens and backups are shown to administrators; your role is ${me.value.role}.</p>`}
  ${me.value.may.includes("rates:read") ? html`<section aria-labelledby="limits"><h2 id="limits">How often who may ask</h2><${Limits} /></section>` : null}
  ${me.value.may.includes("machines:manage") ? html`<section aria-labelledby="joins"><h2 id="joins">Join tokens</h2><${JoinTokens} /></section>` : null}
  <section aria-labelledby="page"><h2 id="page">This page</h2><${Choice} words="Colours" choice=${theme} values=${CHOICES.theme} /><${Choice} words="Times" choice=${clockMode} values=${CHOICES.clock} /><${Choice} words="Single keys" choice=${singleKeys} values=${CHOICES.keys} /></section>
  <section aria-labelledby="about"><h2 id="about">About</h2><p>AgentCom ${hub.value?.version}, up since <${When} at=${hub.value?.started_at} />. You are ${me.value.label || "logged in"} (${me.value.role}). <a href="docs">The API</a>, <a href="dashboard/vendor/LICENCES.txt">licences of what this page is made with</a></p></section>
  <${AsApi} path="api/v1/tokens" cli="agentcom token ls" />`;
