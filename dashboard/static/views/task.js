// @ts-check
// One task: why it stands where it stands, where its time went, what its checks found, what it wrote.

import { useEffect, useRef, useState } from "preact/hooks";
import { ask, base, follow as followLog, href, onEvent } from "../store.js";
import { Act, AsApi, count, Finding, GoOn, html, length, Loading, money, plural, Proof, Pull, say, Scroll, size, State, TaskState, Took, Trouble, useAsked, When } from "../ui.js";
import Change from "./change.js";
import { phases, Strip, Waterfall } from "./journey.js";
import NewTask from "./newtask.js";

/** @typedef {import("../store.js").Row} Row */

const FINAL = new Set(["completed", "failed", "cancelled", "dead"]);
const LOG_LINES = 50_000; // the log itself stays on the hub
const LINE_PX = 18;

// --- head ------------------------------------------------------------------------------------------------------------

/** @param {{pairs: [string, any][]}} props */
const Facts = ({ pairs }) => html`<dl class="facts">${pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** @param {Row} usage */
const costOf = (usage) => usage.model === "none" ? `no model, ${length(usage.seconds)}`
  : `${usage.model}${usage.endpoint ? ` at ${usage.endpoint}` : ""}: ${count(usage.input_tokens)} tokens in${usage.cached_input_tokens ? ` (${count(usage.cached_input_tokens)} from a cache)` : ""}, ${count(usage.output_tokens)} out, ${money(usage.cost_usd)}, ${length(usage.seconds)}`;

/** @param {Row} task @param {string} priority @param {() => void} again */
const prioritise = async (task, priority, again) => {
  try { await ask(`tasks/${task.id}`, { method: "PATCH", body: { priority } }); } catch (error) { say(/** @type {Error} */ (error).message, "trouble"); }
  again();
};

/** @param {{task: Row, again: () => void}} props */
const Actions = ({ task, again }) => {
  const path = (/** @type {string} */ verb) => `tasks/${task.id}/${verb}`;
  const held = task.hold && !task.hold.ended_at;
  return html`<p class="actions">
    ${FINAL.has(task.state) ? null : html`<${Act} path=${path("cancel")} permission="tasks:control" sure=${`Cancel \u201c${task.title || task.id}\u201d?`} done=${again}>Cancel<//>`}
    ${task.state === "dead" ? html`<${Act} path=${path("retry")} permission="tasks:control" done=${again} class="main">Retry<//>` : null}
    ${!FINAL.has(task.state) && !held && task.state !== "waiting" ? html`<${Act} path=${path("pause")} body=${{}} permission="tasks:control" done=${again}>Pause<//>` : null}
    ${held ? html`<${GoOn} task=${task} again=${again} />` : null}
    <${NewTask} like=${task.spec} />
    ${FINAL.has(task.state) ? null : html`<label>Priority <select value=${task.priority} onChange=${(/** @type {any} */ event) => prioritise(task, event.target.value, again)}>
      ${["urgent", "high", "normal", "low"].map((one) => html`<option key=${one} value=${one} selected=${one === task.priority}>${one}</option>`)}</select></label>`}
    ${task.state === "waiting" && !held ? html`<a class="button" href=${href("reviews", task.id)}>Review</a>` : null}</p>`;
};

/** @param {{task: Row}} props */
const Why = ({ task }) => {
  const { told } = useAsked(`tasks/${task.id}/explain`);
  if (!told) return null;
  return html`<section aria-labelledby="why"><h2 id="why">Why it waits</h2><p>${told.summary}${/[.!?]$/.test(told.summary) ? "" : "."}${told.position ? ` ${plural(told.position, "task")} before it.` : ""}${told.starts_in_s === null ? "" : ` Starts probably in ${length(told.starts_in_s)}.`}</p>
    ${told.unblock.length ? html`<ul class="plain">${told.unblock.map((/** @type {string} */ way) => html`<li key=${way}>${way}</li>`)}</ul>` : null}
    ${told.agents.length ? html`<table class="stack"><caption class="hidden">What each agent says</caption><thead><tr><th scope="col">Agent</th><th scope="col">State</th><th scope="col">Why not</th></tr></thead><tbody>
      ${told.agents.map((/** @type {Row} */ one) => html`<tr key=${one.agent}><th scope="row">${one.agent}</th><td><${State} state=${one.state} /></td><td>${one.reasons.length ? one.reasons.join("; ") : `it could${costs(one.cost)}`}</td></tr>`)}</tbody></table>` : null}</section>`;
};

/** @param {Record<string, number>} cost */
const costs = (cost) => {
  const terms = Object.entries(cost ?? {});
  return terms.length ? `: ${terms.map(([name, value]) => `${name.replace(/_s$/, "").replaceAll("_", " ")} ${length(value)}`).join(", ")}` : "";
};

// --- where the time went -----------------------------------------------------------------------------------------------

/** @param {{task: Row}} props */
const Iterations = ({ task }) => task.iterations.length ? html`<section aria-labelledby="iterations"><h2 id="iterations">Iterations</h2>${task.iterations.map((/** @type {Row} */ one) => {
  const shares = phases(one).filter(([, , seconds]) => seconds > 0.0005);
  const whole = shares.reduce((sum, [, , seconds]) => sum + seconds, 0);
  return html`<article key=${one.number} class="iteration"><h3>${one.number}. <${State} state=${one.passed === false ? "failed" : one.execution_ok ? "passed" : "failed"}>${one.passed === null ? (one.execution_ok ? "done, no checks" : "work failed") : one.passed ? "every check passed" : "checks failed"}<//> <span class="muted">${costOf(one.usage)}</span></h3>
    ${one.summary ? html`<p>${one.summary}</p>` : null}
    ${whole ? html`<div class="bar tall" role="img" aria-label=${shares.map(([words, , seconds]) => `${words} ${length(seconds)}`).join(", ")}>${shares.map(([words, kind, seconds]) => html`<i key=${words} class=${kind} title="${words}: ${length(seconds)}" style=${{ width: `${(seconds / whole) * 100}%` }}></i>`)}</div>
      <p class="muted legend">${shares.map(([words, kind, seconds]) => html`<span key=${words}><i class=${kind}></i>${words} ${length(seconds)}</span>`)}</p>` : null}
    <ul class="plain">${one.findings.map((/** @type {Row} */ finding) => html`<${Finding} key=${finding.name} one=${finding} />`)}</ul></article>`;
})}</section>` : null;

/** What another machine says. @param {{proof: Row}} props */
const CleanRoom = ({ proof }) => html`<section aria-labelledby="proof"><h2 id="proof">Proof by another machine</h2>
  <p><${State} state=${proof.state} /> ${proof.by_agent ? html`<b>${proof.by_agent}</b> on ${proof.by_host}, attempt ${proof.by_epoch}` : "nobody yet"} <span class="muted">of the work of ${proof.agent} on ${proof.host}, attempt ${proof.epoch}</span></p>
  ${proof.reason ? html`<p class="why">${proof.reason}</p>` : null}<ul class="plain">${proof.report.map((/** @type {Row} */ one) => html`<${Finding} key=${one.name} one=${one} />`)}</ul></section>`;

/** Its pull request, where its project has them. @param {{id: string}} props */
const PullOf = ({ id }) => {
  const { told, again } = useAsked(`pulls/${id}`);
  return told ? html`<section aria-labelledby="pull"><h2 id="pull">Pull request</h2><${Pull} pull=${told} again=${again} /></section>` : null;
};

/** @param {{told: Row}} props */
const Routing = ({ told }) => html`<section aria-labelledby="routing"><h2 id="routing">Routing</h2><p>${told.reason || "Not routed yet."}</p>
  <${Facts} pairs=${[["tier", `${told.tier.effective} (${told.tier.explicit ? "as submitted" : `looks ${told.tier.inferred}`}${told.tier.signals.length ? `: ${told.tier.signals.join(", ")}` : ""})`], ["strategy", told.strategy], ["model", told.model], ["endpoint", told.endpoint]]} />
  ${told.candidates.length ? html`<${Scroll} label="Ways that were looked at"><table class="stack"><caption class="hidden">Ways that were looked at</caption><thead><tr><th scope="col">Way</th><th scope="col">Model</th><th scope="col">Where</th><th scope="col">Verdict</th></tr></thead><tbody>
    ${told.candidates.map((/** @type {Row} */ one, /** @type {number} */ place) => html`<tr key=${place}><th scope="row">${one.strategy.replaceAll("_", " ")}</th><td data-label="model">${one.model}</td><td data-label="at">${[one.endpoint, one.agent].filter(Boolean).join(" by ")}</td>
      <td>${one.feasible ? `fits${costs(one.cost)}` : one.reasons.join("; ")}</td></tr>`)}</tbody></table><//>` : null}</section>`;

/** @param {{task: Row}} props */
const Files = ({ task }) => {
  const { told } = useAsked(`tasks/${task.id}/artifacts`);
  if (!told?.artifacts.length) return null;
  return html`<section aria-labelledby="files"><h2 id="files">Files</h2><table class="stack"><caption class="hidden">Files that attempts have left</caption><thead><tr><th scope="col">File</th><th scope="col">Attempt</th><th scope="col">Size</th><th scope="col">SHA-256</th></tr></thead><tbody>
    ${told.artifacts.map((/** @type {Row} */ one) => html`<tr key=${one.id}><th scope="row"><a href=${new URL(`api/v1/artifacts/${one.id}/download`, base).href} download>${one.path}</a></th><td data-label="attempt">${one.epoch}${one.accepted ? " (counts)" : ""}</td><td class="num">${size(one.size_bytes)}</td><td data-label="SHA-256"><code title=${one.sha256}>${one.sha256.slice(0, 12)}</code></td></tr>`)}</tbody></table></section>`;
};

// --- what it wrote -----------------------------------------------------------------------------------------------------

/** The log as it grows; only the lines in sight are drawn. @param {{task: Row}} props */
const Log = ({ task }) => {
  const lines = useRef(/** @type {string[]} */ ([""]));
  /** The first piece that is here; 0: nothing is. */
  const first = useRef(0);
  const asking = useRef(false);
  const [, draw] = useState(0);
  const [follow, setFollow] = useState(true);
  const [find, setFind] = useState("");
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [top, setTop] = useState(0);
  const [told, setTold] = useState({ ended: false, cut: 0 });
  useEffect(() => {
    lines.current = [""];
    first.current = 0;
    // From its end: what comes before is asked for by whoever scrolls up.
    let due = 0;
    const stop = followLog({ log: "task", task: task.id, tail: "1000" }, (kind, piece) => {
      if (kind === "log-refused") say(piece.detail, "trouble");
      if (kind !== "log") { setTold((before) => ({ ...before, ended: true })); return; }
      first.current ||= piece.seq;
      const pieces = piece.text.split("\n");
      const all = lines.current;
      all[all.length - 1] += pieces[0];
      for (let place = 1; place < pieces.length; place += 1) all.push(pieces[place]);
      const over = all.length - LOG_LINES;
      if (over > 5_000) { all.splice(0, over); setTold((before) => ({ ...before, cut: before.cut + over })); }
      due ||= requestAnimationFrame(() => { due = 0; draw((before) => before + 1); });
    });
    return () => { stop(); cancelAnimationFrame(due); };
  }, [task.id]);
  useEffect(() => { if (follow && box.current) box.current.scrollTop = box.current.scrollHeight; });
  const wanted = find.toLowerCase();
  const all = wanted ? lines.current.filter((line) => line.toLowerCase().includes(wanted)) : lines.current;
  const height = box.current?.clientHeight ?? 400;
  const from = Math.max(0, Math.floor((follow ? all.length * LINE_PX - height : top) / LINE_PX) - 20);
  const shown = all.slice(from, from + Math.ceil(height / LINE_PX) + 40);
  const earlier = async () => {
    if (asking.current || first.current < 2 || lines.current.length > LOG_LINES) return;
    asking.current = true;
    try {
      const { logs } = await ask(`tasks/${task.id}/logs?before=${first.current}&limit=500`);
      first.current = logs.length ? logs[0].seq : 1;
      const before = logs.map((/** @type {Row} */ piece) => piece.text).join("").split("\n");
      lines.current = [...before.slice(0, -1), before.at(-1) + lines.current[0], ...lines.current.slice(1)];
      const added = (before.length - 1) * LINE_PX;
      setTop((at) => at + added);
      requestAnimationFrame(() => { if (box.current) box.current.scrollTop += added; });
    } catch (error) { say(/** @type {Error} */ (error).message, "trouble"); }
    asking.current = false;
  };
  const onScroll = (/** @type {any} */ event) => {
    const { scrollTop, scrollHeight, clientHeight } = event.target;
    setTop(scrollTop);
    setFollow(scrollTop + clientHeight >= scrollHeight - LINE_PX);
    if (scrollTop < clientHeight) earlier();
  };
  const isEmpty = !all.length || (all.length === 1 && !all[0]);
  return html`<section aria-labelledby="log"><h2 id="log">Log</h2><div class="filters"><label>Find <input type="search" value=${find} onInput=${(/** @type {any} */ event) => setFind(event.target.value)} /></label>
    <label><input type="checkbox" checked=${follow} onChange=${(/** @type {any} */ event) => setFollow(event.target.checked)} /> follow</label>
    <span class="muted">${plural(isEmpty ? 0 : all.length, "line")}${told.cut ? `; the first ${count(told.cut)} are only in the file` : ""}${told.ended ? "" : ", more may come"}</span>
    <a href=${new URL(`api/v1/tasks/${task.id}/logs?limit=500`, base).href}>as JSON</a></div>
    ${isEmpty ? html`<p class="muted">${wanted ? "No line holds that." : told.ended ? "The task wrote nothing." : "Nothing yet."}</p>` : null}
    <div class="log ${isEmpty ? "nothing" : told.ended ? "whole" : ""}" ref=${box} onScroll=${onScroll} tabIndex="0" role="log" aria-label="Output" aria-live="off"><div style=${{ height: `${all.length * LINE_PX}px` }}>
      <pre style=${{ transform: `translateY(${from * LINE_PX}px)` }}>${shown.join("\n")}</pre></div></div></section>`;
};

/** What it answered; folded where it is long. @param {{text: string}} props */
const Answer = ({ text }) => text.length < 2_000 ? html`<pre tabIndex="0">${text}</pre>` : html`<details><summary>${plural(text.split("\n").length, "line")}</summary><pre tabIndex="0">${text}</pre></details>`;

/** @param {{task: Row, turn: number}} props */
const Timeline = ({ task, turn }) => {
  const { told, again } = useAsked(`tasks/${task.id}/events`);
  useEffect(() => { if (turn) again(); }, [turn]);
  if (!told) return null;
  const start = Date.parse(task.submitted_at);
  return html`<section aria-labelledby="timeline"><h2 id="timeline">What happened</h2><ol class="events">${told.events.map((/** @type {Row} */ event) => html`<li key=${event.seq}><time dateTime=${event.at} title=${event.at} class="num">+${length(Math.max(0, (Date.parse(event.at) - start) / 1000))}</time>
    <span>${event.kind.replaceAll("_", " ")}</span><span class="muted">${[event.agent, event.epoch ? `attempt ${event.epoch}` : "", event.facts.reason ?? ""].filter(Boolean).join(" \u00b7 ")}</span></li>`)}</ol></section>`;
};

/** @param {{spec: Row}} props */
const Spec = ({ spec }) => html`<section aria-labelledby="spec"><h2 id="spec">As submitted</h2><details><summary>The whole task</summary><pre tabIndex="0">${JSON.stringify(spec, null, 2)}</pre></details></section>`;

/** @param {{id: string}} props */
export default ({ id }) => {
  const { told: task, error, again } = useAsked(`tasks/${encodeURIComponent(id)}`);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let due = 0;
    const stop = onEvent((event) => {
      if (event.task !== id || due) return;
      due = window.setTimeout(() => { due = 0; again(); setTurn((before) => before + 1); }, 300);
    });
    return () => { stop(); clearTimeout(due); };
  }, [id]);
  if (!task) return html`<h1>Task</h1>${error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Loading} />`}`;
  const result = task.result;
  const error_ = result?.error && result.error !== task.reason ? result.error : "";
  return html`<p class="crumbs"><a href=${href("tasks")}>Tasks</a></p><h1>${task.title || task.id}</h1>
    <p class="strip"><${TaskState} task=${task} /> <${Proof} task=${task} /> <span><${Took} from=${task.started_at} to=${task.ended_at} /></span> <span class="muted">submitted <${When} at=${task.submitted_at} /></span></p>
    <${Strip} task=${task} /><${Actions} task=${task} again=${again} /><${Trouble} error=${error} again=${again} />
    ${task.reason ? html`<p class="why">${task.reason}</p>` : null}${error_ ? html`<p class="why">${result.error_code ? html`<${State} state="failed">${result.error_code}<//> ` : null}${error_}</p>` : null}
    ${["queued", "blocked"].includes(task.state) ? html`<${Why} key=${turn} task=${task} />` : null}
    <${Facts} pairs=${[["id", html`<code>${task.id}</code>`], ["agent", task.agent], ["priority", task.priority], ["cost", result ? costOf(task.usage) : ""], ["branch", result?.branch ? html`<code>${result.branch}</code>${result.pushed ? "" : " (not pushed)"}` : ""],
    ["commit", result?.commit ? html`<code>${result.commit}</code>` : ""], ["labels", Object.entries(task.labels).map(([name, value]) => `${name}:${value}`).join(", ")], ["retries left", FINAL.has(task.state) ? "" : String(task.retries_left)],
    ["held up", task.hold ? `${task.hold.kind} by ${task.hold.by}${task.hold.reason ? `: ${task.hold.reason}` : ""}` : ""],
    ["answer", task.attempts.at(-1)?.answering ? `${task.attempts.at(-1).answering.phase}, ${count(task.attempts.at(-1).answering.tokens)} pieces so far` : ""]]} />
    ${task.spec.project && result?.branch ? html`<${PullOf} key=${turn} id=${task.id} />` : null}
    <${Waterfall} task=${task} /><${Iterations} task=${task} />${task.proof ? html`<${CleanRoom} proof=${task.proof} />` : null}
    <${Change} text=${result?.diff || task.attempts.findLast((/** @type {Row} */ one) => one.result?.diff)?.result.diff || ""} />
    ${result?.output ? html`<section aria-labelledby="output"><h2 id="output">Output</h2><${Answer} text=${result.output} /></section>` : null}
    <${Log} task=${task} /><${Files} task=${task} /><${Routing} told=${task.routing} /><${Timeline} task=${task} turn=${turn} /><${Spec} spec=${task.spec} />
    <${AsApi} path=${`api/v1/tasks/${task.id}`} cli=${`agentcom tasks show ${task.id}`} />`;
};
