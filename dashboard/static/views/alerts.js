// @ts-check
// What is wrong, since when, and what to do; what was; who is told.

import { useEffect, useRef, useState } from "preact/hooks";
import { ask, base, firing, href, isLive, may, tables } from "../store.js";
import { Act, AsApi, count, Dialog, Empty, html, Loading, say, Scroll, State, Trouble, UNKNOWN, useAsked, When } from "../ui.js";
import { ThisBrowser } from "./thisbrowser.js";

/** @typedef {import("../store.js").Row} Row */

const TABS = { now: "Now", history: "History", rules: "Rules", notifiers: "Who is told", runbooks: "What to do" };
const QUIET = /** @type {[string, number][]} */ ([["an hour", 3_600], ["8 hours", 28_800], ["a day", 86_400], ["a week", 604_800]]);
/** @type {Record<string, [string, string]>} */
const SEVERITY = { critical: ["\u2715", "failed"], warning: ["\u25b2", "again"], info: ["\u25cb", "queued"] };

/** Of a reading no more digits than anybody reads. @param {number} value */
const short = (value) => value >= 100 ? Math.round(value) : Number(value.toPrecision(3));

/** @param {{one: Row}} props */
const Severity = ({ one }) => { const [glyph, colour] = SEVERITY[one.severity] ?? ["\u25b2", "again"]; return html`<span class="state ${colour}"><span aria-hidden="true">${glyph}</span> ${one.severity}</span>`; };

/** Where it stands what to do about it: here, but for a page that somebody else has made. @param {{one: Row}} props */
const Runbook = ({ one }) => html`<a href=${/^https?:[/][/]/.test(one.runbook ?? "") ? one.runbook : href("alerts", "runbooks", { rule: one.rule ?? one.name })} rel="noreferrer">What to do</a>`;

/** `here`: the page was opened for it. @param {{one: Row, again: () => void, here?: boolean}} props */
const Alert = ({ one, again, here = false }) => {
  const shown = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => { if (here) shown.current?.scrollIntoView({ block: "center" }); }, [here]);
  const silence = async (/** @type {any} */ event) => {
    const seconds = Number(event.target.value);
    event.target.value = "";
    if (!seconds) return;
    try { await ask(`alerts/${encodeURIComponent(one.id)}/silence`, { method: "POST", body: { for_s: seconds } }); say("It is silent"); } catch (problem) { say(/** @type {Error} */ (problem).message, "trouble"); }
    again();
  };
  const is = (/** @type {string} */ state) => one.state === state;
  return html`<li class="${here ? "alert here" : "alert"}" ref=${shown}><h3><${Severity} one=${one} /> <span>${one.summary || one.rule}</span>${one.summary?.includes(one.subject) ? null : html` <span class="muted">${one.subject}</span>`}</h3>
    <p class="muted">${one.rule}: ${one.value === null || one.value === undefined ? "" : `${count(short(one.value))}${one.threshold === null || one.threshold === undefined ? "" : ` against ${count(one.threshold)}`}, `}since <${When} at=${one.since} />${is("firing") ? "" : html`, <${State} state=${is("resolved") ? "ok" : "waits"}>${one.state}<//>`}${one.until ? html` <${When} at=${one.until} />` : ""}</p>
    ${is("resolved") ? html`<p><${Runbook} one=${one} /></p>` : html`<p class="actions">${is("firing") ? html`<${Act} path=${`alerts/${encodeURIComponent(one.id)}/acknowledge`} permission="alerts:write" done=${again} class="main">Acknowledge<//>` : null}
      <label>Silence for <select disabled=${!may("alerts:write")} onChange=${silence}><option value="">choose</option>${QUIET.map(([words, seconds]) => html`<option key=${seconds} value=${seconds}>${words}</option>`)}</select></label> <${Runbook} one=${one} /></p>`}</li>`;
};

/** @param {{alerts: Row[], again: () => void, here?: string}} props */
const List = ({ alerts, again, here }) => html`<ul class="plain rows">${alerts.map((one) => html`<${Alert} key=${one.id} one=${one} again=${again} here=${one.id === here} />`)}</ul>`;

/** `here`: an alert that the page was opened for, which may have ended meanwhile. @param {{here: string}} props */
const Now = ({ here }) => {
  const { told, error, again } = useAsked("alerts");
  const states = tables.alerts.all.map((one) => `${one.id} ${one.state}`).join();
  useEffect(() => { if (told) again(); }, [states]);
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  const open = told.alerts.filter((/** @type {Row} */ one) => one.state !== "resolved");
  const groups = /** @type {[string, string][]} */ ([["firing", "Firing"], ["acknowledged", "Somebody is at it"], ["silenced", "Silent"]]);
  const ended = told.alerts.filter((/** @type {Row} */ one) => one.id === here && one.state === "resolved");
  const past = ended.length ? html`<section aria-labelledby="ended"><h2 id="ended">It has ended</h2><${List} alerts=${ended} again=${again} here=${here} /></section>` : null;
  if (!open.length) return html`${past}<p class="calm"><${State} state="ok">no alert is firing<//></p>`;
  return [past, ...groups.map(([state, words]) => {
    const some = open.filter((/** @type {Row} */ one) => one.state === state);
    return some.length ? html`<section key=${state} aria-labelledby=${state}><h2 id=${state}>${words}</h2><${List} alerts=${some} again=${again} here=${here} /></section>` : null;
  })];
};

const History = () => {
  const { told, error, again } = useAsked("alerts?state=resolved");
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  return told.alerts.length ? html`<${List} alerts=${told.alerts} again=${again} />` : html`<${Empty} command="agentcom alerts ls --state resolved">No alert has ended yet. Later, in a terminal:<//>`;
};

/** @param {{rule: Row, again: () => void}} props */
const Rule = ({ rule, again }) => {
  const change = async (/** @type {Row} */ body) => {
    try { await ask(`alerts/rules/${encodeURIComponent(rule.name)}`, { method: "PATCH", body }); say(`${rule.name} is changed`); } catch (problem) { say(/** @type {Error} */ (problem).message, "trouble"); }
    again();
  };
  const off = !may("alerts:write") || !isLive.value;
  return html`<tr><th scope="row">${rule.name}<div class="reason">${rule.about}. <${Runbook} one=${rule} /></div></th><td><${Severity} one=${rule} /></td>
    <td>${rule.threshold === null || rule.threshold === undefined ? UNKNOWN : html`<input type="number" step="any" aria-label="Threshold of ${rule.name}" disabled=${off} value=${rule.threshold} onChange=${(/** @type {any} */ event) => change({ threshold: Number(event.target.value) })} />`} <span class="muted">${rule.unit ?? ""}</span></td>
    <td><label><input type="checkbox" aria-label="${rule.name} is on" checked=${rule.enabled ?? true} disabled=${off} onChange=${(/** @type {any} */ event) => change({ enabled: event.target.checked })} /> on</label></td></tr>`;
};

const Rules = () => {
  const { told, error, again } = useAsked("alerts/rules");
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`<${Scroll} label="Rules"><table class="stack"><caption class="hidden">Rules</caption><thead><tr><th scope="col">Rule</th><th scope="col">Severity</th><th scope="col">Threshold</th><th scope="col">On</th></tr></thead><tbody>
    ${told.rules.map((/** @type {Row} */ rule) => html`<${Rule} key=${rule.name} rule=${rule} again=${again} />`)}</tbody></table><//>`;
};

/** @param {{close: () => void}} props */
const Add = ({ close }) => {
  const [error, setError] = useState("");
  const add = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    try { await ask("notifiers", { method: "POST", body: Object.fromEntries([...form].filter(([, value]) => value !== "")) }); close(); } catch (problem) { setError(/** @type {Error} */ (problem).message); }
  };
  return html`<form class="form" onSubmit=${add}><label>Kind <select name="kind"><option>webhook</option><option>apprise</option></select></label><label>Address <input name="url" required /></label><label>Name <input name="label" /></label>
    <label>Alerts from <select name="least"><option>critical</option><option selected>warning</option><option>info</option></select></label>
    <label>Secret, to sign what is sent <input name="secret" /></label>${error ? html`<p class="trouble" role="alert">${error}</p>` : null}<p class="actions"><button class="main">Add</button></p></form>`;
};

const Notifiers = () => {
  const { told, error, again } = useAsked("notifiers");
  const [adds, setAdds] = useState(false);
  if (!told) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`${adds ? html`<${Dialog} title="Tell somebody" close=${() => setAdds(false)}><${Add} close=${() => { setAdds(false); again(); }} /><//>` : null}
    ${may("alerts:write") ? html`<${ThisBrowser} notifiers=${told.notifiers} again=${again} /><p class="actions"><button type="button" class="main" onClick=${() => setAdds(true)}>Tell somebody</button></p>` : null}
    ${told.notifiers.length ? html`<${Scroll} label="Who is told"><table class="stack"><caption class="hidden">Who is told</caption><thead><tr><th scope="col">Name</th><th scope="col">Kind</th><th scope="col">Where</th><th scope="col">Told from</th><th scope="col">Last</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead><tbody>
    ${told.notifiers.map((/** @type {Row} */ one) => html`<tr key=${one.id}><th scope="row">${one.label || one.id}</th><td>${one.kind}${one.is_signed ? ", signed" : ""}</td><td><code>${one.url}</code></td><td data-label="least">${one.least}</td><td>${one.problem ? html`<${State} state="failed" /><div class="reason">${one.problem}</div>` : html`<${State} state="ok">well<//>`}</td>
      <td><span class="actions"><${Act} path=${`notifiers/${encodeURIComponent(one.id)}/test`} permission="alerts:write" done=${(/** @type {Row} */ test) => { say(test.delivered ? "The test has arrived" : `The test has not arrived: ${test.problem}`, test.delivered ? "" : "trouble"); again(); }}>Test<//>
        <${Act} path=${`notifiers/${encodeURIComponent(one.id)}`} method="DELETE" permission="alerts:write" sure=${`Forget ${one.label || one.id}?`} done=${again}>Remove<//></span></td></tr>`)}</tbody></table><//>`
    : html`<${Empty} command="agentcom alerts notifiers --add URL">Nobody is told: alerts are only shown here. Tell a webhook, or an address of Apprise:<//>`}`;
};

// --- what to do ----------------------------------------------------------------------------------------------------------

/** The parts of the page of the documents, by the rule that each is about. @param {string} text @returns {[string, string[]][]} */
const parts = (text) => text.split(/^## /m).slice(1).map((part) => { const [name, ...lines] = part.split("\n"); return [name.trim(), lines.join("\n").trim().split(/\n{2,}/)]; });

/** A paragraph: commands in it are told from words. @param {{text: string}} props */
const Words = ({ text }) => html`<p>${text.split("`").map((piece, place) => place % 2 ? html`<code key=${place}>${piece.replaceAll("\n", " ")}</code>` : piece)}</p>`;

/** @param {{rule: string}} props */
const Runbooks = ({ rule }) => {
  const [text, setText] = useState("");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  useEffect(() => { fetch(new URL("dashboard/runbooks.md", base)).then((answer) => answer.text()).then(setText, setError); }, []);
  const shown = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => { shown.current?.scrollIntoView({ block: "center" }); }, [rule, text]);
  if (!text) return error ? html`<${Trouble} error=${error} />` : html`<${Loading} />`;
  return html`${parts(text).map(([name, paragraphs]) => html`<section key=${name} class=${name === rule ? "runbook here" : "runbook"} aria-labelledby=${name} ref=${name === rule ? shown : null}><h2 id=${name}>${name}</h2>${paragraphs.map((one, place) => html`<${Words} key=${place} text=${one} />`)}</section>`)}`;
};

/** @param {{id: string, query: URLSearchParams}} props */
export default ({ id, query }) => {
  const tab = Object.hasOwn(TABS, id) ? id : "now";
  const many = firing.value;
  const [path, cli] = /** @type {Record<string, string[]>} */ ({ history: ["alerts?state=resolved", "ls --state resolved"], rules: ["alerts/rules", "rules"], runbooks: ["alerts/rules", "rules"], notifiers: ["notifiers", "notifiers"] })[tab] ?? ["alerts", "ls"];
  return html`<h1>Alerts</h1><nav class="tabs" aria-label="Alerts">${Object.entries(TABS).map(([name, words]) => html`<a key=${name} href=${href("alerts", name === "now" ? "" : name)} aria-current=${name === tab ? "page" : undefined}>${words}${name === "now" && many ? ` (${many})` : ""}</a>`)}</nav>
    ${tab === "history" ? html`<${History} />` : tab === "rules" ? html`<${Rules} />` : tab === "notifiers" ? html`<${Notifiers} />` : tab === "runbooks" ? html`<${Runbooks} rule=${query.get("rule") ?? ""} />` : html`<${Now} here=${query.get("alert") ?? ""} />`}
    <${AsApi} path=${`api/v1/${path}`} cli=${`agentcom alerts ${cli}`} />`;
};
