// @ts-check
// Where a task stands on its way, and where its time went.

import { now } from "../store.js";
import { html, length, Scroll, State, Took, When } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */
/** @typedef {[string, string, number, number]} Block words, colour, from, to */

// --- the way -------------------------------------------------------------------------------------------------------------

/** The steps of a task: word, when it was reached, whether it is there now. @param {Row} task @returns {[string, string | null, boolean][]} */
const steps = (task) => {
  const last = task.attempts.at(-1);
  const isVerifying = last?.state === "verifying" && task.state === "running";
  const isProving = task.proof?.state === "pending" || task.proof?.state === "waits";
  const at = (/** @type {string} */ state) => task.state === state;
  const queuedAt = at("blocked") ? null : task.queued_at;
  const isQueued = at("queued");
  return /** @type {[string, string | null, boolean][]} */ ([
    ["submitted", task.submitted_at, false],
    ...(at("blocked") ? [["blocked", task.submitted_at, true]] : []),
    ["queued", queuedAt, isQueued],
    ["assigned", isQueued ? null : last?.assigned_at ?? null, at("assigned")],
    ["running", isQueued ? null : last?.started_at ?? null, at("running") && !isVerifying && !isProving],
    ...(task.spec.verification?.length ? [["verifying", !isQueued && (task.iterations.length || isVerifying) ? last?.started_at ?? null : null, isVerifying]] : []),
    ...(task.proof ? [["proof", task.proof.by_agent ? last?.assigned_at ?? null : null, isProving && !task.ended_at]] : []),
    ...(at("waiting") ? [["waiting", last?.ended_at ?? task.queued_at, true]] : []),
    [task.ended_at ? task.state : "completed", task.ended_at, Boolean(task.ended_at)],
  ]);
};

/** @param {{task: Row}} props */
export const Strip = ({ task }) => html`<ol class="steps" aria-label="The way of the task">${steps(task).map(([word, at, is]) => html`<li key=${word} class="${at ? "reached" : "ahead"} ${is ? "here" : ""}" aria-current=${is ? "step" : undefined}>
  ${is ? html`<${State} state=${word} />` : html`<span>${at ? html`<span aria-hidden="true">\u2713</span> ` : null}${word}</span>`}<span class="muted num">${at ? (word === "verifying" ? "" : html`<${When} at=${at} />`) : ""}</span></li>`)}</ol>`;

// --- the time ------------------------------------------------------------------------------------------------------------

/** What a share of an iteration was, in the order in which it usually comes: words, colour, seconds. @param {Row} iteration @returns {[string, string, number][]} */
export const phases = (iteration) => {
  const { usage, findings } = iteration;
  const timing = usage.timing;
  const verify = findings.reduce((/** @type {number} */ sum, /** @type {Row} */ one) => sum + one.seconds, 0);
  if (!timing) return [["work", "work", Math.max(0, usage.seconds)], ["verify", "verify", verify]];
  const known = timing.load_s + timing.prefill_s + timing.decode_s + (timing.queue_s ?? 0);
  return [["wait for the model", "wait", timing.queue_s ?? 0], ["load the model", "load", timing.load_s], ["read the prompt", "prompt", timing.prefill_s], ["generate", "generate", timing.decode_s],
    ["model, not told apart", "generate", Math.max(0, timing.model_s - known)], ["tools and the rest", "tools", Math.max(0, usage.seconds - timing.model_s)], ["verify", "verify", verify]];
};

/** The phases of an attempt one after the other, as long as it took; what nobody timed is its workspace and its delivery. @param {Row[]} iterations @param {number} from @param {number} to @param {string} kind @returns {Block[]} */
const inside = (iterations, from, to, kind) => {
  const parts = iterations.flatMap((one) => phases(one).map(([words, colour, seconds]) => /** @type {[string, string, number]} */ ([iterations.length > 1 ? `${words} (iteration ${one.number})` : words, colour, seconds * 1000])));
  const known = parts.reduce((sum, [, , ms]) => sum + ms, 0);
  if (!known) return [["work", kind, from, to]];
  const shrink = Math.min(1, (to - from) / known); // clocks of two machines may differ
  let at = from;
  /** @type {Block[]} */ const blocks = [];
  for (const [words, colour, ms] of parts) {
    if (ms <= 0) continue;
    blocks.push([words, colour, at, at + ms * shrink]);
    at += ms * shrink;
  }
  if (to - at > 1) blocks.push(["workspace and delivery", "rest", at, to]);
  if (kind === "bad") blocks.push(["it ended here", "bad", to, to]);
  return blocks;
};

/** @param {Row} task */
const attemptsOf = (task) => {
  const start = Date.parse(task.submitted_at);
  const end = task.ended_at ? Date.parse(task.ended_at) : Math.max(now.value, start + 1000);
  let last = start;
  const rows = /** @type {{one: Row, blocks: Block[]}[]} */ (task.attempts.map((/** @type {Row} */ one) => {
    const assigned = Date.parse(one.assigned_at);
    const started = one.started_at ? Date.parse(one.started_at) : null;
    const ended = one.ended_at ? Date.parse(one.ended_at) : end;
    const waited = last;
    last = ended;
    const kind = ["lost", "failed"].includes(one.state) ? "bad" : "work";
    const iterations = one.result?.iterations ?? (one === task.attempts.at(-1) ? task.iterations : []);
    return { one, blocks: [["queue", "wait", waited, assigned], ["placement", "place", assigned, started ?? ended], ...(started ? inside(iterations, started, ended, kind) : [])] };
  }));
  return { start, end, rows };
};

/** @param {{blocks: Block[]}} props */
const Told = ({ blocks }) => html`<ul class="plain legend">${blocks.filter(([, , from, to]) => to - from >= 0.5).map(([words, kind, from, to], place) => html`<li key=${place}><span><i class=${kind}></i>${words} <span class="num">${length((to - from) / 1000)}</span></span></li>`)}</ul>`;

/** @param {{task: Row}} props */
export const Waterfall = ({ task }) => {
  const { start, end, rows } = attemptsOf(task);
  const whole = Math.max(1, end - start);
  const place = (/** @type {number} */ from, /** @type {number} */ to) => ({ left: `${((from - start) / whole) * 100}%`, width: `${Math.max(0.4, ((to - from) / whole) * 100)}%` });
  return html`<section aria-labelledby="time"><h2 id="time">Where the time went</h2>
    <div class="waterfall" role="img" aria-label="Attempts over ${length(whole / 1000)}; the table below tells the same">
      <div class="axis"><span>0</span><span>${length(whole / 2000)}</span><span>${length(whole / 1000)}${task.ended_at ? "" : ", now"}</span></div>
      ${rows.map(({ one, blocks }) => html`<div class="line" key=${one.epoch}><span>attempt ${one.epoch}</span><div class="track">${blocks.filter(([, , from, to]) => to >= from).map(([words, kind, from, to], at) => html`
        <i key=${at} class=${kind} title="${words}: ${length((to - from) / 1000)}" style=${place(from, to)}></i>`)}</div></div>`)}
      ${rows.length ? null : html`<div class="line"><span>waits</span><div class="track"><i class="wait" style=${place(start, end)}></i></div></div>`}</div>
    ${rows.length ? html`<${Scroll} label="Attempts"><table class="stack"><caption class="hidden">Attempts</caption><thead><tr><th scope="col">Attempt</th><th scope="col">State</th><th scope="col">Agent</th><th scope="col">Took</th><th scope="col">Of which</th><th scope="col">Why it ended</th></tr></thead>
      <tbody>${rows.map(({ one, blocks }) => html`<tr key=${one.epoch}><th scope="row">${one.epoch}${one.accepted ? " (counts)" : ""}</th><td><${State} state=${one.state} /></td><td data-label="by">${one.agent}${one.host && one.host !== one.agent ? html` <span class="muted">on ${one.host}</span>` : null}</td>
        <td data-label="took"><${Took} from=${one.started_at} to=${one.ended_at} /></td><td><${Told} blocks=${blocks} /></td><td>${[one.failure, one.reason].filter(Boolean).join(": ")}</td></tr>`)}</tbody></table><//>` : null}</section>`;
};
