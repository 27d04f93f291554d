// @ts-check
// What was used today, and what may be.

import { useState } from "preact/hooks";
import { ahead, ask, may, requery, tables } from "../store.js";
import { AsApi, Bar, Chart, count, Dialog, Empty, html, length, Loading, money, plural, say, Scroll, Trouble, useAsked, When } from "../ui.js";

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

// --- use over time -------------------------------------------------------------------------------------------------------

const BY = ["model", "submitter", "project", "label"];
const SPANS = /** @type {Record<string, [number, number]>} */ ({ day: [86_400, 3_600], week: [604_800, 21_600], month: [2_592_000, 86_400] });
const KINDS = ["run", "again", "good", "wait"];

/** What each has used; the most expensive first. @param {{by: string, span: string}} props */
const Use = ({ by, span }) => {
  const [back, step] = SPANS[span];
  const [to] = useState(() => Math.floor((Date.now() + ahead.peek()) / 1000));
  const from = to - back;
  const { told, error, again } = useAsked(`usage?by=${by}&since=${new Date(from * 1000).toISOString().slice(0, 19)}Z&step_s=${step}`);
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  const groups = /** @type {Row[]} */ (told.groups);
  if (!groups.length) return html`<${Empty} command='agentcom submit "Say hello" --wait'>No model was used in this time${by === "label" ? " by work with labels" : ""}. Give one something to do:<//>`;
  const isPaid = groups.some((one) => one.cost_usd > 0);
  const sum = (/** @type {string} */ name) => groups.reduce((all, one) => all + one[name], 0);
  const lines = groups.slice(0, 4).map((one, place) => {
    const known = new Map(one.points.map((/** @type {[number, number, number]} */ point) => [point[0], isPaid ? point[1] : point[2]]));
    const points = /** @type {[number, number][]} */ ([]);
    for (let at = Math.floor(from / step) * step; at <= to; at += step) points.push([Math.max(at, from), known.get(at) ?? 0]); // the first step has begun before
    return { label: one.name || "none", kind: KINDS[place], points };
  });
  return html`<${Chart} title="${isPaid ? "Spent" : "Tokens"} by ${by}" now=${isPaid ? money(sum("cost_usd")) : count(sum("input_tokens") + sum("output_tokens"))} note=${isPaid ? `in a ${span}${by === "label" ? ", work with several labels counted under each" : ""}` : `tokens in a ${span}`} words=${isPaid ? money : count} from=${from} to=${to} lines=${lines} />
    <${Scroll} label="Use"><table class="stack"><caption class="hidden">Use by ${by}</caption><thead><tr><th scope="col">${by[0].toUpperCase() + by.slice(1)}</th><th scope="col">Cost</th><th scope="col">Attempts</th><th scope="col">Tokens in</th><th scope="col">Of these from a cache</th><th scope="col">Tokens out</th><th scope="col">Time</th></tr></thead><tbody>
    ${groups.map((one) => html`<tr key=${one.name}><th scope="row">${one.name || html`<span class="muted">none</span>`}</th><td class="num" data-label="cost">${money(one.cost_usd)}${one.unpriced ? html` <span class="muted">${plural(one.unpriced, "attempt")} without a price</span>` : null}</td><td class="num" data-label="attempts">${count(one.attempts)}</td><td class="num" data-label="in">${count(one.input_tokens)}</td><td class="num" data-label="cached">${count(one.cached_input_tokens)}</td><td class="num" data-label="out">${count(one.output_tokens)}</td><td class="num" data-label="time">${length(one.seconds)}</td></tr>`)}</tbody></table><//>`;
};

/** @param {{query: URLSearchParams}} props */
export default ({ query }) => {
  const by = BY.find((one) => one === query.get("by")) ?? "model";
  const span = SPANS[query.get("span") ?? ""] ? /** @type {string} */ (query.get("span")) : "week";
  const choose = (/** @type {string} */ name, /** @type {string} */ words, /** @type {string[]} */ values, /** @type {string} */ chosen) => html`<span class="actions" role="group" aria-label=${words}>${values.map((one) => html`<button type="button" class="small" key=${one} aria-pressed=${one === chosen} onClick=${() => requery({ by, span, [name]: one })}>${name === "by" ? `by ${one}` : `last ${one}`}</button>`)}</span>`;
  const budgets = tables.budgets.all;
  const [edits, setEdits] = useState(false);
  return html`<h1>Costs</h1><section aria-labelledby="use"><div class="head"><h2 id="use">What models were used for</h2>${choose("by", "By what", BY, by)}${choose("span", "How far back", Object.keys(SPANS), span)}</div><${Use} by=${by} span=${span} /></section>
    <div class="head"><h2>Budgets</h2>${may("budgets:write") ? html`<button type="button" onClick=${() => setEdits(true)}>Set a budget</button>` : null}</div>
    ${edits ? html`<${Dialog} title="Set a budget" close=${() => setEdits(false)}><${Edit} close=${() => setEdits(false)} /><//>` : null}
    ${!tables.budgets.known.value ? html`<${Loading} />` : !budgets.length ? html`<${Empty} command="agentcom budgets set hub --usd 20">No budget is set, so nothing is bounded. Bound all work:<//>` : html`<${Scroll} label="Budgets"><table class="stack"><caption class="hidden">Budgets</caption>
    <thead><tr><th scope="col">Budget</th><th scope="col">Of</th><th scope="col">Spent today</th><th scope="col">Reserved</th><th scope="col">Limit</th><th scope="col">Share</th></tr></thead><tbody>
    ${budgets.flatMap((budget) => UNITS.filter(([unit]) => budget.limit[unit] !== null || budget.spent[unit]).map(([unit, words, told], place) => html`<tr key=${budget.id + unit}><th scope="row">${place ? html`<span class="hidden">${budget.id}</span>` : budget.id}</th><td>${words}</td><td class="num" data-label="spent">${told(budget.spent[unit])}</td><td class="num" data-label="reserved">${told(budget.reserved[unit])}</td>
      <td class="num" data-label="of">${budget.limit[unit] === null ? "none" : told(budget.limit[unit])}</td><td class="share">${budget.limit[unit] ? html`<${Bar} total=${budget.limit[unit]} label="${told(budget.spent[unit])} of ${told(budget.limit[unit])}" parts=${[[budget.spent[unit], budget.spent[unit] / budget.limit[unit] > 0.9 ? "tight" : "ours", "spent"], [budget.reserved[unit], "held", "reserved"]]} />` : null}</td></tr>`))}</tbody></table><//>
    <p class="muted">All of it is there again <${When} at=${budgets[0].resets_at} />.</p>`}
    <${AsApi} path=${`api/v1/usage?by=${by}`} cli=${`agentcom budgets usage --by ${by} --days ${SPANS[span][0] / 86_400}`} />`;
};
