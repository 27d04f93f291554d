// @ts-check
// What waits for a person.

import { useState } from "preact/hooks";
import { ask, href, listed, me } from "../store.js";
import { AsApi, Empty, Finding, GoOn, html, Loading, Pull, say, State, Trouble, useAsked, When, word } from "../ui.js";
import Change from "./change.js";

/** @typedef {import("../store.js").Row} Row */

/** @param {{id: string}} props */
const Review = ({ id }) => {
  const { told: task, error, again } = useAsked(`tasks/${encodeURIComponent(id)}`);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  if (!task) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`;
  const attempt = task.attempts.at(-1);
  const findings = task.iterations.at(-1)?.findings ?? [];
  const decide = async (/** @type {string} */ verb, /** @type {Row} */ more = {}) => {
    setBusy(true);
    try {
      await ask(`tasks/${task.id}/${verb}`, { method: "POST", body: { reason, epoch: attempt?.epoch, ...more } });
      say(`${task.title || task.id}: ${verb === "approve" ? "approved" : more.again ? "sent back" : "rejected"}`);
    } catch (problem) { say(/** @type {Error} */ (problem).message, "trouble"); }
    setBusy(false);
    again();
  };
  const mayDecide = me.value.may.includes("tasks:review");
  return html`<article class="review" aria-labelledby="review"><h2 id="review"><a href=${href("tasks", task.id)}>${task.title || task.id}</a></h2>
    <p><${State} state=${task.state} /> ${attempt ? `by ${attempt.agent}, attempt ${attempt.epoch}, ` : ""}submitted <${When} at=${task.submitted_at} /></p><p class="why">${task.reason}</p>
    ${task.result?.branch ? html`<p>Branch <code>${task.result.branch}</code> ${task.result.commit ? html`commit <code>${task.result.commit.slice(0, 12)}</code>` : null}</p>` : null}
    <ul class="plain">${findings.map((/** @type {Row} */ one) => html`<${Finding} key=${one.name} one=${one} />`)}</ul>
    <${Change} text=${task.result?.diff || attempt?.result?.diff || ""} />
    ${task.reviews.map((/** @type {Row} */ one) => html`<p key=${one.at} class="muted">${one.verdict} by ${one.by} <${When} at=${one.at} />${one.reason ? `: ${one.reason}` : ""}</p>`)}
    ${task.state !== "waiting" ? html`<p class="muted">Nothing waits here any more.</p>` : task.hold && !task.hold.ended_at ? html`<p class="actions big"><${GoOn} task=${task} again=${again} /></p>` : !mayDecide ? html`<p class="muted">Your role (${me.value.role}) may not decide.</p>` : html`
    <div class="form"><label>Why, for whoever looks later (and for the model, if it goes back) <textarea rows="2" value=${reason} onInput=${(/** @type {any} */ event) => setReason(event.target.value)}></textarea></label></div>
    <p class="actions big"><button type="button" disabled=${busy} onClick=${() => decide("reject")}>Reject</button> <button type="button" disabled=${busy || !reason.trim()} title=${reason.trim() ? "" : "say what is wrong first"} onClick=${() => decide("reject", { again: true })}>Send back</button>
      <button type="button" class="main" disabled=${busy} onClick=${() => decide("approve")}>Approve</button></p>`}</article>`;
};

/** Requests that wait for a person. */
const Pulls = () => {
  const { told, again } = useAsked("pulls?state=draft");
  if (!told?.pulls.length) return null;
  return html`<section aria-labelledby="pulls"><h2 id="pulls">Pull requests that wait</h2>${told.pulls.map((/** @type {Row} */ pull) => html`<${Pull} key=${pull.task} pull=${pull} again=${again} />`)}</section>`;
};

/** @param {{id: string}} props */
export default ({ id }) => {
  const waiting = listed("waiting").toReversed(); // oldest first
  const shown = id || waiting[0]?.id;
  return html`<h1>Reviews</h1>${waiting.length ? html`<ul class="plain rows queue">${waiting.map((/** @type {Row} */ task) => html`<li key=${task.id}><a href=${href("reviews", task.id)} aria-current=${task.id === shown ? "true" : undefined}>${task.title || task.id}</a> <span class="muted">submitted <${When} at=${task.submitted_at} /></span> <span class="reason">${task.reason}</span></li>`)}</ul>`
    : html`<${Empty} command='agentcom submit "..." --repo . --verify "pytest -q"'>Nothing waits for a person. Work waits here when it changed its own checks, or when its project wants a look at it. Give it some to prove:<//>`}${shown ? html`<${Review} key=${shown} id=${shown} />` : null}<${Pulls} />
    <${AsApi} path=${shown ? `api/v1/tasks/${encodeURIComponent(shown)}` : "api/v1/tasks?state=waiting"} cli=${shown ? `agentcom tasks show ${word(shown)}` : "agentcom tasks ls --state waiting"} />`;
};
