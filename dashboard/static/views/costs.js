// @ts-check
// What was used today, and what may be.

import { useState } from "preact/hooks";
import { ask, may, tables } from "../store.js";
import { AsApi, Bar, count, Dialog, Empty, html, length, Loading, money, say, Scroll, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

const UNITS = /** @type {[string, string, (value: number) => string][]} */ ([["usd", "money", money], ["tokens", "tokens", count], ["seconds", "time of attempts", length]]);

/** @param {{close: () => void}} props */
const Edit = ({ close }) => {
  const [error, setError] = useState("");
  const save = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    /** @type {Row} */ const body = {};
    for (const [unit] of UNITS) if (form.get(unit)) body[unit] = Number(form.get(unit));
    try { await ask(`budgets/${encodeURIComponent(String(form.get("id")))}`, { method: "PUT", body }); say("The budget is set"); close(); } catch (problem) { setError(/** @type {Error} */ (problem).message); }
  };
  return html`<form class="form" onSubmit=${save}><label>What it bounds: hub, submitter:TOKEN_ID or project:NAME <input name="id" required value="hub" /></label>
    <label>US dollars a day <input name="usd" type="number" min="0" step="any" /></label><label>Tokens a day <input name="tokens" type="number" min="0" /></label><label>Seconds of attempts a day <input name="seconds" type="number" min="0" /></label>
    ${error ? html`<p class="trouble" role="alert">${error}</p>` : null}<p class="actions"><button class="main">Set</button></p></form>`;
};

export default () => {
  const budgets = tables.budgets.all;
  const [edits, setEdits] = useState(false);
  return html`<h1>Costs</h1>${may("budgets:write") ? html`<p class="actions"><button type="button" class="main" onClick=${() => setEdits(true)}>Set a budget</button></p>` : null}
    ${edits ? html`<${Dialog} title="Set a budget" close=${() => setEdits(false)}><${Edit} close=${() => setEdits(false)} /><//>` : null}
    ${!tables.budgets.known.value ? html`<${Loading} />` : !budgets.length ? html`<${Empty} command="agentcom budgets set hub --usd 20">No budget is set, so nothing is bounded and nothing is summed a day. What a task costs stands on its page. Bound all work:<//>` : html`<${Scroll} label="Budgets"><table><caption class="hidden">Budgets</caption>
    <thead><tr><th scope="col">Budget</th><th scope="col">Of</th><th scope="col">Spent today</th><th scope="col">Reserved</th><th scope="col">Limit</th><th scope="col">Share</th></tr></thead><tbody>
    ${budgets.flatMap((budget) => UNITS.filter(([unit]) => budget.limit[unit] !== null || budget.spent[unit]).map(([unit, words, told], place) => html`<tr key=${budget.id + unit}><th scope="row">${place ? "" : budget.id}</th><td>${words}</td><td class="num">${told(budget.spent[unit])}</td><td class="num">${told(budget.reserved[unit])}</td>
      <td class="num">${budget.limit[unit] === null ? "none" : told(budget.limit[unit])}</td><td>${budget.limit[unit] ? html`<${Bar} total=${budget.limit[unit]} label="${told(budget.spent[unit])} of ${told(budget.limit[unit])}" parts=${[[budget.spent[unit], budget.spent[unit] / budget.limit[unit] > 0.9 ? "tight" : "ours", "spent"], [budget.reserved[unit], "held", "reserved"]]} />` : null}</td></tr>`))}</tbody></table><//>
    <p class="muted">All of it is there again <${When} at=${budgets[0].resets_at} />.</p>`}
    <${AsApi} path="api/v1/budgets" cli="agentcom budgets" />`;
};
