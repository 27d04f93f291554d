// @ts-check
// Small parts that every view is made of. All text is text: nothing here or elsewhere takes markup.

import { Component, h } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useComputed } from "@preact/signals";
import htm from "htm";
import { ahead, ask, clockMode, href, isLive, me, now } from "./store.js";

export const html = htm.bind(h);
/** @typedef {import("./store.js").Row} Row */

/** What stands where no number has come yet: nothing known is not nothing there. */
export const UNKNOWN = "\u2013";

// --- words for numbers -----------------------------------------------------------------------------------------------

/** A length of time in few characters. @param {number} seconds */
export const length = (seconds) => {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
};

/** @param {number | null | undefined} bytes */
export const size = (bytes) => {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  if (bytes < 1024) return `${bytes} B`;
  const step = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** step;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB"][step]}`;
};

/** A figure that moves all the time, as wide as its longest: nothing beside it moves. @param {string | number} text @param {number} chars */
export const wide = (text, chars) => String(text).padStart(chars, "\u00a0");

/** @param {number | null | undefined} usd */
export const money = (usd) => usd === null || usd === undefined ? "price unknown" : usd === 0 ? "$0" : usd < 0.01 ? `$${usd.toFixed(4)}` : `$${usd.toFixed(2)}`;

const grouped = new Intl.NumberFormat("en");
/** @param {number | null | undefined} value */
export const count = (value) => value === null || value === undefined ? UNKNOWN : grouped.format(value);

/** @param {string} word @param {number} many */
export const plural = (many, word) => `${count(many)} ${word}${many === 1 ? "" : "s"}`;

/** Seconds from one moment to another, or to now. @param {string} from @param {string | null} [to] */
export const between = (from, to) => Math.max(0, ((to ? Date.parse(to) : now.value + ahead.value) - Date.parse(from)) / 1000);

/** @param {string} at */
const moment = (at) => {
  if (clockMode.value === "utc") return at.replace("T", " ").replace(/\.\d+/, "");
  if (clockMode.value === "local") return new Date(at).toLocaleString([], { hour12: false });
  const seconds = (now.value + ahead.value - Date.parse(at)) / 1000;
  return seconds < -5 ? `in ${length(-seconds)}` : seconds < 5 ? "just now" : `${length(seconds)} ago`;
};

/** When something was: how long ago, or the time of day, as the reader wants it. @param {{at: string | null | undefined}} props */
export const When = ({ at }) => {
  const told = useComputed(() => at ? moment(at) : UNKNOWN);
  return at ? html`<time dateTime=${at} title=${at}>${told}</time>` : UNKNOWN;
};

/** How long something takes so far, or took. @param {{from: string | null | undefined, to?: string | null}} props */
export const Took = ({ from, to }) => from ? html`<span class="num">${length(to ? between(from, to) : (now.value, between(from)))}</span>` : null;

// --- states ----------------------------------------------------------------------------------------------------------

/** @type {Record<string, [string, string]>} word -> glyph, colour */
const STATES = {
  blocked: ["\u25c7", "waiting"], queued: ["\u25cb", "queued"], assigned: ["\u25d4", "running"], running: ["\u25b6", "running"],
  waiting: ["\u25c6", "waiting"], completed: ["\u2713", "done"], failed: ["\u2715", "failed"], dead: ["\u2715", "failed"],
  cancelled: ["\u2298", "queued"], lost: ["\u2715", "failed"], idle: ["\u25cb", "queued"], accepted: ["\u25d4", "running"],
  working: ["\u25b6", "running"], verifying: ["\u25b6", "running"], draining: ["\u21bb", "again"], offline: ["?", "unknown"],
  unknown: ["?", "unknown"], ok: ["\u2713", "done"], up: ["\u2713", "done"], online: ["\u2713", "done"], degraded: ["\u25b2", "again"],
  down: ["\u2715", "failed"], cooldown: ["\u21bb", "again"], half_open: ["\u21bb", "again"], passed: ["\u2713", "done"],
  retrying: ["\u21bb", "again"], warm: ["\u25cf", "done"], cold: ["\u25cb", "queued"], waits: ["\u25c6", "waiting"], proven: ["\u2713", "done"], refuted: ["\u2715", "failed"], untold: ["?", "unknown"],
  pending: ["\u25cb", "queued"], draft: ["\u25c6", "waiting"], open: ["\u25b6", "running"], merged: ["\u2713", "done"], closed: ["\u2298", "queued"], loading: ["\u25d4", "running"], absent: ["\u00b7", "queued"],
};

/** A state by glyph, word and colour; never by colour alone. @param {{state: string, children?: any}} props */
export const State = ({ state, children }) => {
  const [glyph, colour] = STATES[state] ?? ["\u00b7", "queued"];
  return html`<span class="state ${colour}"><span aria-hidden="true">${glyph}</span> ${children ?? state.replaceAll("_", " ")}</span>`;
};

/** Of something whose state the hub told; while the line is cut that is only what it was. @param {{state: string}} props */
export const LiveState = ({ state }) => isLive.value ? html`<${State} state=${state} />` : html`<${State} state="unknown">unknown, was ${state}<//>`;

/** @param {{task: Row}} props */
export const TaskState = ({ task }) => html`<${State} state=${task.state}>${task.state}${task.epoch > 1 ? `, attempt ${task.epoch}` : ""}<//>`;

/** What checks say of a task. @param {{task: Row}} props */
export const Proof = ({ task }) => task.verified === true ? html`<${State} state="passed">verified<//>`
  : task.verified === false ? html`<${State} state="failed">not verified<//>`
    : task.ended_at ? html`<span class="muted">no checks</span>` : null;

// --- parts -----------------------------------------------------------------------------------------------------------

/** A line that copies itself. @param {{text: string, label?: string}} props */
export const Copy = ({ text, label = "Copy" }) => {
  const [done, setDone] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("Copied");
    } catch {
      setDone("Select it and copy by hand"); // a browser may forbid it, so without TLS
    }
    setTimeout(() => setDone(""), 2_000);
  };
  return html`<button type="button" class="small" onClick=${copy}>${done || label}</button>`;
};

/** A command to copy. @param {{text: string}} props */
export const Command = ({ text }) => html`<span class="command"><code>${text}</code><${Copy} text=${text} /></span>`;

/** What to do where nothing is yet. @param {{children: any, command?: string}} props */
export const Empty = ({ children, command }) => html`<div class="empty"><p>${children}</p>${command ? html`<${Command} text=${command} />` : null}</div>`;

/** @param {{children: any}} props */
export const Loading = ({ children = "Loading\u2026" }) => html`<p class="muted" role="status">${children}</p>`;

/** @param {{error: Error | null, again?: () => void}} props */
export const Trouble = ({ error, again }) => error ? html`<p class="trouble" role="alert">${error.message} ${again ? html`<button type="button" class="small" onClick=${again}>Try again</button>` : null}</p>` : null;

/** A word of a command as a shell takes it, whatever stands in it. @param {string} text */
export const word = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
/** Flags of a command with their values; those without one are left out. @param {Record<string, string | string[] | undefined>} given */
export const flags = (given) => Object.entries(given).flatMap(([name, values]) => [values ?? []].flat().filter(Boolean).map((value) => ` --${name} ${word(value)}`)).join("");

/** How this view is asked for by a program. @param {{path: string, cli?: string, method?: string}} props */
export const AsApi = ({ path, cli, method = "GET" }) => {
  const curl = `curl -H "Authorization: Bearer $AGENTCOM_TOKEN" ${method === "GET" ? "" : `-X ${method} `}"${new URL(path, document.baseURI)}"`;
  return html`<details class="asapi"><summary>Copy as curl${cli ? " or command" : ""}</summary>
    ${cli ? html`<${Command} text=${cli} />` : null}<${Command} text=${curl} /></details>`;
};

/** A part of a whole: `parts` are [value, class, words]. @param {{total: number, parts: [number, string, string][], label: string}} props */
export const Bar = ({ total, parts, label }) => {
  const shown = parts.filter(([value]) => value > 0);
  return html`<div class="bar" role="img" aria-label=${label}>${shown.map(([value, kind, words]) => html`
    <i key=${words} class=${kind} title=${words} style=${{ width: `${Math.min(100, (value / Math.max(total, 1)) * 100)}%` }}></i>`)}</div>`;
};

/** @param {{used: number | null | undefined, total: number | null | undefined, label: string}} props */
export const SpaceBar = ({ used, total, label }) => used === null || used === undefined || !total ? html`<div class="gauge"><span class="muted">${label}</span><span class="muted">${UNKNOWN}</span></div>` : html`
  <div class="gauge"><span class="muted">${label}</span><${Bar} total=${total} label="${label}: ${size(used)} of ${size(total)} used" parts=${[[used, used / total > 0.9 ? "tight" : "ours", `${size(used)} used`]]} /><span class="num">${wide(size(used), 8)} / ${size(total)}</span></div>`;

/** A finding of a check. @param {{one: Row}} props */
export const Finding = ({ one }) => html`<li><${State} state=${one.passed ? "passed" : one.doubtful ? "waiting" : "failed"}>${one.passed ? "passed" : one.doubtful ? "doubtful" : "failed"}<//> <b>${one.name || one.type}</b> <span class="muted">${one.detail} ${length(one.seconds)}</span>
  ${!one.passed && one.output ? html`<pre tabIndex="0">${one.output}</pre>` : null}</li>`;

/** A pull request, and what a person can do about it. @param {{pull: Row, again: () => void}} props */
export const Pull = ({ pull, again }) => html`<div class="pull"><p><${State} state=${pull.state} /> ${pull.url ? html`<a href=${pull.url} rel="noreferrer">${pull.project} #${pull.number}</a>` : pull.project} <code>${pull.branch}</code> into <code>${pull.into || "the default branch"}</code>
    ${pull.risk ? html` <b>${pull.risk} risk</b>` : null}${pull.approved_by ? html` <span class="muted">approved by ${pull.approved_by}</span>` : null}</p>
  ${pull.reasons.length ? html`<ul class="plain muted">${pull.reasons.map((/** @type {string} */ why) => html`<li key=${why}>${why}</li>`)}</ul>` : null}${pull.problem ? html`<p class="why">${pull.problem}</p>` : null}
  <p class="actions">${pull.state === "draft" && !pull.approved_by ? html`<${Act} path=${`pulls/${pull.task}/approve`} permission="pulls:review" done=${again} class="main">Let it go on<//>` : null}
    ${pull.state === "failed" || pull.problem ? html`<${Act} path=${`pulls/${pull.task}/retry`} permission="pulls:review" done=${again}>Try it again<//>` : null}</p></div>`;

/** Lets a task go on that somebody holds up. @param {{task: Row, again: () => void}} props */
export const GoOn = ({ task, again }) => html`<${Act} path=${`tasks/${task.id}/${task.hold.kind === "take" ? "hand-back" : "resume"}`} body=${task.hold.kind === "take" ? {} : undefined} permission="tasks:control" done=${again} class="main">${task.hold.kind === "take" ? "Hand back" : "Resume"}<//>`;

/** A link to a task. @param {{task: Row}} props */
export const TaskLink = ({ task }) => html`<a href=${href("tasks", task.id)}>${task.title || task.id}</a>`;

/** What is wider than a phone, and can be moved by keys too. @param {{label: string, children: any}} props */
export const Scroll = ({ label, children }) => html`<div class="scroll" tabIndex="0" role="region" aria-label=${label}>${children}</div>`;

/** A list of tasks. @param {{tasks: Row[], caption: string}} props */
export const TaskTable = ({ tasks, caption }) => html`<table class="tasks"><caption class="hidden">${caption}</caption>
  <thead><tr><th scope="col">State</th><th scope="col">Task</th><th scope="col">Proof</th><th scope="col">Agent</th><th scope="col">Took</th><th scope="col">Submitted</th></tr></thead>
  <tbody>${tasks.map((task) => html`<${TaskRow} key=${task.id} task=${task} />`)}</tbody></table>`;

/** @param {{task: Row}} props */
export const TaskRow = ({ task }) => html`<tr>
  <td class="nowrap"><${TaskState} task=${task} /></td>
  <td><${TaskLink} task=${task} />${task.reason ? html`<div class="reason">${task.reason}</div>` : null}</td>
  <td><${Proof} task=${task} /></td>
  <td data-label="by">${task.agent ?? ""}</td>
  <td data-label="took"><${Took} from=${task.started_at} to=${task.ended_at} /></td>
  <td class="nowrap muted" data-label="submitted"><${When} at=${task.submitted_at} /></td></tr>`;

/**
 * A button that asks the hub for something, and says what became of it.
 * @param {{path: string, method?: string, body?: unknown, permission: string, sure?: string, done?: (told: Row) => void, class?: string, children: any}} props
 */
export const Act = ({ path, method = "POST", body, permission, sure, done, class: kind = "", children }) => {
  const [busy, setBusy] = useState(false);
  const isAllowed = me.value.may.includes(permission) && !me.value.read_only;
  const act = async () => {
    if (sure && !(await confirmed(sure))) return;
    setBusy(true);
    try {
      const told = await ask(path, { method, body });
      done?.(told);
    } catch (error) {
      say(/** @type {Error} */ (error).message, "trouble");
    }
    setBusy(false);
  };
  return html`<button type="button" class=${kind} disabled=${busy || !isAllowed || !isLive.value} title=${isAllowed ? "" : `your role (${me.value.role}) may not do this`} onClick=${act}>${children}</button>`;
};

// --- words to the reader ---------------------------------------------------------------------------------------------

/** @type {((words: string, kind?: string) => void)[]} */
const sayers = [];
/** Tell something at the edge of the page. @param {string} words @param {string} [kind] */
export const say = (words, kind = "") => sayers.forEach((sayer) => sayer(words, kind));

export const Toasts = () => {
  const [told, setTold] = useState(/** @type {{id: number, words: string, kind: string}[]} */ ([]));
  useEffect(() => {
    const sayer = (/** @type {string} */ words, kind = "") => {
      const id = Math.random();
      setTold((before) => [...before.slice(-3), { id, words, kind }]);
      setTimeout(() => setTold((before) => before.filter((one) => one.id !== id)), kind ? 12_000 : 5_000);
    };
    sayers.push(sayer);
    return () => { sayers.splice(sayers.indexOf(sayer), 1); };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">${told.map((one) => html`<p key=${one.id} class=${one.kind}>${one.words}</p>`)}</div>`;
};

/** @type {((question: string, answer: (yes: boolean) => void) => void) | null} */
let asker = null;
/** Whether the reader is sure. @param {string} question @returns {Promise<boolean>} */
export const confirmed = (question) => new Promise((answer) => asker ? asker(question, answer) : answer(false));

export const Confirm = () => {
  const [asked, setAsked] = useState(/** @type {{question: string, answer: (yes: boolean) => void} | null} */ (null));
  useEffect(() => { asker = (question, answer) => setAsked({ question, answer }); return () => { asker = null; }; }, []);
  if (!asked) return null;
  const end = (/** @type {boolean} */ yes) => { asked.answer(yes); setAsked(null); };
  return html`<${Dialog} title="Are you sure?" close=${() => end(false)}><p>${asked.question}</p>
    <p class="actions"><button type="button" class="main" onClick=${() => end(true)}>Yes</button> <button type="button" onClick=${() => end(false)}>No</button></p><//>`;
};

/** @param {{title: string, close: () => void, class?: string, children: any}} props */
export const Dialog = ({ title, close, class: kind = "", children }) => {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => { ref.current?.showModal(); }, []); // before the next key is pressed
  return html`<dialog ref=${ref} class=${kind} aria-label=${title} onClose=${close} onClick=${(/** @type {MouseEvent} */ event) => event.target === ref.current && close()}>
    <div class="inside"><header><h2>${title}</h2><button type="button" class="small" onClick=${close} aria-label="Close">Esc</button></header>${children}</div></dialog>`;
};

/**
 * Shows what broke of a view, and leaves the rest of the page alone.
 * @extends {Component<{of: string, children: any}, {error: Error | null}>}
 */
export class Guard extends Component {
  constructor() { super(); this.state = { error: /** @type {Error | null} */ (null) }; }
  static getDerivedStateFromError(/** @type {Error} */ error) { return { error }; }
  componentDidUpdate(/** @type {any} */ before) { if (before.of !== this.props.of && this.state.error) this.setState({ error: null }); }
  render() {
    const { error } = this.state;
    return error ? html`<p class="trouble" role="alert">This view cannot be shown: ${error.message}. The rest of the page goes on.</p>` : this.props.children;
  }
}

// --- asking ----------------------------------------------------------------------------------------------------------

/**
 * What the hub answers to `path`; asked again by `again`. What was there stays while it asks and when it cannot answer.
 * @param {string} path
 */
export const useAsked = (path) => {
  const [state, setState] = useState({ path: "", told: /** @type {any} */ (null), error: /** @type {Error | null} */ (null), turn: 0 });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    ask(path, { signal: stop.signal }).then(
      (told) => setState({ path, told, error: null, turn }),
      (error) => { if (!stop.signal.aborted) setState((before) => ({ ...before, path, told: before.path === path ? before.told : null, error, turn })); },
    );
    return () => stop.abort();
  }, [path, turn]);
  // When the line is back, what was asked for may be old.
  const live = isLive.value;
  useEffect(() => { if (live && state.path) setTurn((before) => before + 1); }, [live]);
  return { told: state.path === path ? state.told : null, error: state.error, again: () => setTurn((before) => before + 1) };
};

// --- lines over time, in the colours of the page; every chart is a table, too ---------------------------------------------

/** @typedef {{label: string, kind: string, points: [number, number | null][]}} Line */

const WIDE = 600;
const HIGH = 100;
const PAD = 6; // room for a line at the very top

/** The path of a line: nothing known leaves a gap. @param {Line["points"]} points @param {(at: number) => number} x @param {(value: number) => number} y */
const path = (points, x, y) => {
  let told = "";
  let goesOn = false;
  for (const [at, value] of points) {
    if (value === null) { goesOn = false; continue; }
    told += `${goesOn ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}${goesOn ? "" : "h.01"}`;
    goesOn = true;
  }
  return told;
};

/** What is below a line. @param {Line["points"]} points @param {(at: number) => number} x @param {(value: number) => number} y */
const area = (points, x, y) => {
  let told = "";
  let last = 0;
  for (const [at, value] of [...points, /** @type {[number, null]} */ ([0, null])]) {
    if (value === null) { if (last) told += `L${x(last).toFixed(1)} ${HIGH}Z`; last = 0; continue; }
    told += last ? `L${x(at).toFixed(1)} ${y(value).toFixed(1)}` : `M${x(at).toFixed(1)} ${HIGH}L${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    last = at;
  }
  return told;
};

/** @param {number} at seconds */
const iso = (at) => new Date(at * 1000).toISOString();

/** @param {{lines: Line[], words: (value: number) => string}} props */
const Figures = ({ lines, words }) => {
  const moments = [...new Set(lines.flatMap((line) => line.points.map(([at]) => at)))].sort((a, b) => b - a);
  const told = lines.map((line) => new Map(line.points));
  return html`<${Scroll} label="Figures"><table class="figures"><caption class="hidden">Figures</caption><thead><tr><th scope="col">Moment</th>${lines.map((line) => html`<th scope="col" key=${line.label}>${line.label}</th>`)}</tr></thead>
    <tbody>${moments.map((at) => html`<tr key=${at}><td class="nowrap"><${When} at=${iso(at)} /></td>${told.map((values, place) => html`<td class="num" key=${place}>${values.get(at) === null || values.get(at) === undefined ? UNKNOWN : words(/** @type {number} */ (values.get(at)))}</td>`)}</tr>`)}</tbody></table><//>`;
};

/**
 * Lines over time, under one number that says how it is now. `from` and `to` in seconds.
 * @param {{title: string, now: any, note?: any, lines: Line[], words: (value: number) => string, from: number, to: number, most?: number, empty?: string}} props
 */
export const Chart = ({ title, now, note, lines, words, from, to, most, empty = "No figure yet: one comes every minute." }) => {
  const [asTable, setTable] = useState(false);
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const known = lines.flatMap((line) => line.points.filter(([, value]) => value !== null).map(([, value]) => /** @type {number} */ (value)));
  const top = most ?? (Math.max(...known, 0) || 1);
  const x = (/** @type {number} */ moment) => ((moment - from) / Math.max(1, to - from)) * WIDE;
  const y = (/** @type {number} */ value) => HIGH - (Math.min(value, top) / top) * (HIGH - PAD);
  const near = (/** @type {Line} */ line) => line.points.reduce((/** @type {[number, number | null] | null} */ best, point) => best === null || Math.abs(point[0] - (at ?? to)) < Math.abs(best[0] - (at ?? to)) ? point : best, null);
  const move = (/** @type {any} */ event) => { const box = event.currentTarget.getBoundingClientRect(); setAt(from + ((event.clientX - box.left) / box.width) * (to - from)); };
  const first = at === null ? null : near(lines[0]);
  const spoken = known.length ? `${title}: from ${words(Math.min(...known))} to ${words(Math.max(...known))}; the table tells each figure` : `${title}: ${empty}`;
  return html`<article class="plot"><header><h3>${title}</h3>${known.length ? html`<button type="button" class="small quiet" aria-pressed=${asTable} aria-label="${title} as a table" onClick=${() => setTable(!asTable)}>table</button>` : null}</header>
    <p class="big"><b class="num">${now}</b> <span class="muted">${note}</span></p>
    ${!known.length ? html`<p class="none muted">${empty}</p>` : asTable ? html`<${Figures} lines=${lines} words=${words} />` : html`
      <div class="field"><span class="most num muted">${words(top)}</span><svg viewBox="0 0 ${WIDE} ${HIGH}" preserveAspectRatio="none" role="img" aria-label=${spoken} onPointerMove=${move} onPointerLeave=${() => setAt(null)}>
        <path class="ground" d="M0 ${PAD}H${WIDE}M0 ${HIGH / 2 + PAD / 2}H${WIDE}M0 ${HIGH}H${WIDE}" />${lines.length && lines[0].kind ? html`<path class="below ${lines[0].kind}" d=${area(lines[0].points, x, y)} />` : null}
        ${lines.map((line) => html`<path key=${line.label} class="line ${line.kind}" d=${path(line.points, x, y)} />`)}${at === null ? null : html`<path class="cursor" d="M${x(at).toFixed(1)} 0V${HIGH}" />`}</svg></div>
      <p class="axis muted">${first ? html`<span><${When} at=${iso(first[0])} /></span>` : html`<span><${When} at=${iso(from)} /></span>`}
        <span class="legend">${lines.length > 1 || first ? lines.map((line) => { const value = at === null ? null : near(line)?.[1] ?? null; return html`<span key=${line.label}><i class="ink ${line.kind}"></i>${line.label}${value === null ? "" : ` ${words(value)}`}</span>`; }) : null}</span>${first ? null : html`<span>now</span>`}</p>`}</article>`;
};
