// @ts-check
// What all tasks write, as they write it: one stream, bounded in this page, whole at the hub.

import { useEffect, useRef, useState } from "preact/hooks";
import { clockMode, follow as followLog, href, isLive, requery, tables } from "../store.js";
import { AsApi, count, Empty, flags, html, plural, State } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */
/** @typedef {{seq: number, at: string, task: string, title: string, agent: string, stream: string, text: string, open: boolean}} Line */

const MOST = 10_000; // lines in this page
const MOST_CHARS = 2_000; // of a line
const MOST_NAME = 500; // no name is longer, and a filter that the hub refuses would cut the page's stream
const LINE_PX = 24; // as high as anything that is pressed has to be
const WHOSE = /** @type {const} */ (["host", "agent", "task"]);
const CODES = /\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]/g; // colours of terminals and other codes

/** @param {string} at */
const clock = (at) => clockMode.value === "utc" ? at.slice(11, 23) : new Date(at).toLocaleTimeString([], { hour12: false });

/** The lines as they come: a piece may end within one. @param {Record<string, string>} whose */
const useLines = ({ host, ...whose }) => {
  const lines = useRef(/** @type {Line[]} */ ([]));
  const [told, setTold] = useState({ cut: 0, skipped: 0, refused: "" });
  const [, draw] = useState(0);
  const key = JSON.stringify(whose);
  useEffect(() => {
    lines.current = [];
    setTold({ cut: 0, skipped: 0, refused: "" });
    /** @type {Map<string, Line>} */ const open = new Map();
    let due = 0;
    const stop = followLog({ ...whose, log: "all", tail: "200" }, (kind, piece) => {
      if (kind === "log-dropped") { open.clear(); setTold((before) => ({ ...before, skipped: before.skipped + piece.pieces })); }
      if (kind === "log-refused") setTold((before) => ({ ...before, refused: piece.detail }));
      if (kind !== "log") return;
      const from = `${piece.task} ${piece.epoch} ${piece.stream}`;
      const parts = piece.text.replace(CODES, "").split("\n");
      const all = lines.current;
      parts.forEach((/** @type {string} */ text, /** @type {number} */ place) => {
        const isLast = place === parts.length - 1;
        const before = place === 0 ? open.get(from) : undefined;
        if (before) { before.text = (before.text + text).slice(0, MOST_CHARS); before.open = isLast; } else if (text || !isLast) {
          const line = { seq: piece.seq + place / 100_000, at: piece.at, task: piece.task, title: piece.title || piece.task, agent: piece.agent, stream: piece.stream, text: text.slice(0, MOST_CHARS), open: isLast };
          all.push(line);
          if (isLast) open.set(from, line);
        }
        if (!isLast) open.delete(from);
      });
      const over = all.length - MOST;
      if (over > MOST / 10) { all.splice(0, over); setTold((before) => ({ ...before, cut: before.cut + over })); }
      due ||= requestAnimationFrame(() => { due = 0; draw((before) => before + 1); });
    });
    return () => { stop(); cancelAnimationFrame(due); };
  }, [key]);
  return { lines: lines.current, ...told };
};

/** @param {{query: URLSearchParams}} props */
export default ({ query }) => {
  /** @type {Record<string, string>} */ const whose = {};
  for (const name of WHOSE) { const value = query.get(name)?.slice(0, MOST_NAME); if (value) whose[name] = value; }
  const text = query.get("q") ?? "";
  const { lines, cut, skipped, refused } = useLines(whose);
  const [held, setHeld] = useState(/** @type {Line[] | null} */ (null));
  const [follow, setFollow] = useState(true);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [top, setTop] = useState(0);
  const wanted = text.toLowerCase();
  const source = held ?? lines;
  const there = whose.host ? new Set(tables.agents.all.filter((agent) => agent.host === whose.host).map((agent) => agent.name)) : null;
  const all = wanted || there ? source.filter((line) => (!there || there.has(line.agent)) && (!wanted || line.text.toLowerCase().includes(wanted))) : source;
  useEffect(() => { if (follow && !held && box.current) box.current.scrollTop = box.current.scrollHeight; });
  const height = box.current?.clientHeight ?? 600;
  const from = Math.max(0, Math.floor((follow && !held ? all.length * LINE_PX - height : top) / LINE_PX) - 20);
  const shown = all.slice(from, from + Math.ceil(height / LINE_PX) + 40);
  const onScroll = (/** @type {any} */ event) => {
    const { scrollTop, scrollHeight, clientHeight } = event.target;
    setTop(scrollTop);
    if (!held) setFollow(scrollTop + clientHeight >= scrollHeight - LINE_PX);
  };
  const agent = whose.agent || (there?.size === 1 ? [...there][0] : "");
  const change = (/** @type {Record<string, string>} */ to) => requery({ ...whose, q: text, ...to });
  const busy = tables.tasks.all.filter((task) => ["running", "assigned"].includes(task.state) || task.id === whose.task);
  const choice = (/** @type {typeof WHOSE[number]} */ name, /** @type {[string, string][]} */ values) => html`<label>${name[0].toUpperCase() + name.slice(1)} <select value=${whose[name] ?? ""} onChange=${(/** @type {any} */ event) => change({ [name]: event.target.value })}><option value="">all</option>
    ${values.map(([value, words]) => html`<option key=${value} value=${value} selected=${value === whose[name]}>${words}</option>`)}</select></label>`;
  return html`<h1>Logs</h1><div class="filters" role="search"><label>Find <input type="search" value=${text} onInput=${(/** @type {any} */ event) => change({ q: event.target.value })} /></label>
    ${choice("host", tables.hosts.all.map((host) => [host.name, host.name]))}${choice("agent", tables.agents.all.map((agent) => [agent.name, agent.name]))}${choice("task", busy.map((task) => [task.id, task.title || task.id]))}
    <button type="button" aria-pressed=${held !== null} onClick=${() => setHeld(held ? null : [...lines])}>${held ? `Go on (${plural(Math.max(0, lines.length - held.length), "new line")})` : "Pause"}</button>
    <label class="check"><input type="checkbox" checked=${follow} onChange=${(/** @type {any} */ event) => setFollow(event.target.checked)} /> follow</label></div>
    <p class="muted" role="status">${refused ? html`<${State} state="failed">${refused}<//>` : isLive.value ? html`<${State} state="ok">following<//>` : html`<${State} state="unknown">connecting<//>`} ${plural(all.length, "line")}${cut ? `; ${count(cut)} older ones have left this page` : ""}${skipped ? `; ${plural(skipped, "piece")} came too quickly and ${skipped === 1 ? "was" : "were"} left out here` : ""}. Each task's page has all of its own.</p>
    ${all.length ? html`<div class="log mesh" ref=${box} onScroll=${onScroll} tabIndex="0" role="log" aria-label="Output of all tasks" aria-live="off"><div style=${{ height: `${all.length * LINE_PX}px` }}><ol style=${{ transform: `translateY(${from * LINE_PX}px)` }}>
      ${shown.map((line) => html`<li key=${line.seq}><time dateTime=${line.at}>${clock(line.at)}</time><span class="who" title=${line.agent}>${line.agent}</span><a href=${href("tasks", line.task)} title=${line.title}>${line.title}</a><span class="said ${line.stream === "stderr" ? "err" : ""}">${line.stream === "stderr" ? html`<b aria-label="error output">!</b> ` : null}${line.text}</span></li>`)}</ol></div></div>`
    : wanted || Object.keys(whose).length ? html`<${Empty}>No line is like that. <button type="button" onClick=${() => requery({})}>Show all</button><//>` : html`<${Empty} command='agentcom submit --shell "for i in 1 2 3; do echo line $i; sleep 1; done"'>Nothing is being written. Submit something that writes:<//>`}
    <${AsApi} path=${`api/v1/logs?${new URLSearchParams({ ...(whose.task ? { task: whose.task } : {}), ...(agent ? { agent } : {}), ...(text ? { q: text } : {}), tail: "200" })}`} cli=${`agentcom tasks logs${whose.task ? ` ${whose.task}` : ""} --follow${whose.task ? "" : flags({ agent, find: text })}`} />`;
};
