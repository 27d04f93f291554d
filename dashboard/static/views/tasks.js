// @ts-check
// All tasks: filters in the address, so that a link shows what its sender saw; or one task.

import { useEffect, useRef, useState } from "preact/hooks";
import { ask, events, hub, isLive, may, requery, tables } from "../store.js";
import { AsApi, confirmed, count, Empty, flags, html, Loading, plural, Proof, say, State, TaskLink, TaskState, Took, Trouble, When } from "../ui.js";
import NewTask from "./newtask.js";
import Task from "./task.js";

/** @typedef {import("../store.js").Row} Row */

const STATES = ["blocked", "queued", "assigned", "running", "waiting", "completed", "failed", "dead", "cancelled"];
const PRIORITIES = ["urgent", "high", "normal", "low"];
const TIERS = ["trivial", "standard", "complex"];
const PAGE = 100;
const ROW_PX = 48; // every row is as high, so that 100,000 of them need no measuring

/** What the list is asked for, from the address. @param {URLSearchParams} query */
const filters = (query) => {
  const some = (/** @type {string} */ name, /** @type {string[]} */ known) => query.getAll(name).flatMap((one) => one.split(",")).filter((one) => known.includes(one));
  return { state: some("state", STATES), priority: some("priority", PRIORITIES), tier: some("tier", TIERS), agent: query.get("agent") ?? "", model: query.get("model") ?? "", label: query.get("label") ?? "", q: query.get("q") ?? "" };
};

/** @param {ReturnType<typeof filters>} asked @param {Record<string, string>} [more] */
const queryOf = (asked, more = {}) => {
  const query = new URLSearchParams(more);
  for (const name of /** @type {const} */ (["state", "priority", "tier"])) if (asked[name].length) query.set(name, asked[name].join(","));
  for (const name of /** @type {const} */ (["agent", "model", "label", "q"])) if (asked[name]) query.set(name, asked[name]);
  return query.toString();
};

/** Rows of the list as far as somebody has scrolled. @param {ReturnType<typeof filters>} asked */
const useList = (asked) => {
  const key = queryOf(asked);
  const [list, setList] = useState({ key: "", rows: /** @type {Row[]} */ ([]), next: /** @type {string | null} */ (null), error: /** @type {Error | null} */ (null), busy: false });
  const latest = useRef(list);
  latest.current = list;
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    // As many as are on the page, so that a look again does not throw the reader back to the top.
    const limit = String(latest.current.key === key ? Math.min(500, Math.max(PAGE, latest.current.rows.length)) : PAGE);
    ask(`tasks?${queryOf(asked, { limit })}`, { signal: stop.signal }).then(
      (told) => {
        const had = latest.current.key === key ? latest.current.rows.slice(told.tasks.length) : [];
        const seen = new Set(told.tasks.map((/** @type {Row} */ task) => task.id));
        const rest = told.next_cursor ? had.filter((task) => !seen.has(task.id) && task.id < told.next_cursor) : [];
        setList({ key, rows: [...told.tasks, ...rest], next: rest.length ? latest.current.next : told.next_cursor, error: null, busy: false });
      },
      (error) => { if (!stop.signal.aborted) setList((before) => ({ ...before, key, rows: before.key === key ? before.rows : [], error, busy: false })); },
    );
    return () => stop.abort();
  }, [key, turn]);
  // What happens is seen at most once in two seconds: a list that jumps cannot be read.
  const newest = events.value[0]?.seq ?? 0;
  const live = isLive.value;
  const due = useRef(0);
  useEffect(() => {
    if (due.current) return;
    due.current = window.setTimeout(() => { due.current = 0; setTurn((before) => before + 1); }, 2_000);
  }, [newest, live]);
  useEffect(() => () => clearTimeout(due.current), []);
  const more = async () => {
    const { next, busy } = latest.current;
    if (!next || busy) return;
    setList((before) => ({ ...before, busy: true }));
    try {
      const told = await ask(`tasks?${queryOf(asked, { limit: String(PAGE), cursor: next })}`);
      setList((before) => before.key !== key ? before : { ...before, rows: [...before.rows, ...told.tasks], next: told.next_cursor, busy: false });
    } catch (error) {
      setList((before) => ({ ...before, error: /** @type {Error} */ (error), busy: false }));
    }
  };
  return { ...list, isKnown: list.key === key, more, again: () => setTurn((before) => before + 1) };
};

/** How many tasks each choice would show; asked again with the list. @param {ReturnType<typeof filters>} asked @param {unknown} turn */
const useFacets = (asked, turn) => {
  const [told, setTold] = useState(/** @type {Row | null} */ (null));
  const key = queryOf(asked);
  useEffect(() => {
    const stop = new AbortController();
    ask(`tasks/facets?${key}`, { signal: stop.signal }).then(setTold, () => {}); // the list tells what is wrong
    return () => stop.abort();
  }, [key, turn]);
  return told;
};

/** @param {{asked: ReturnType<typeof filters>, told: Row | null}} props */
const Facets = ({ asked, told }) => {
  const queue = told?.facets.state ?? hub.value?.queue;
  const toggle = (/** @type {string} */ state) => asked.state.includes(state) ? asked.state.filter((one) => one !== state) : [...asked.state, state];
  return html`<div class="facets" role="group" aria-label="Filter by state">
    ${STATES.map((state) => html`<button type="button" key=${state} class=${queue?.[state] ? "" : "none"} aria-pressed=${asked.state.includes(state)} onClick=${() => requery({ ...asked, state: toggle(state) })}>
      <${State} state=${state} /> <span class="num">${count(queue?.[state] ?? (queue ? 0 : null))}</span></button>`)}</div>`;
};

/** One kind of filter, each choice with how many it would show. @param {{words: string, kind: string, chosen: string, told: Row | null, choose: (value: string) => void, known?: string[]}} props */
const Facet = ({ words, kind, chosen, told, choose, known = [] }) => {
  const counts = told?.facets[kind] ?? {};
  const values = [...new Set([...known, ...Object.keys(counts), ...(chosen ? [chosen] : [])])];
  return html`<label>${words} <select value=${chosen} onChange=${(/** @type {any} */ event) => choose(event.target.value)}><option value="">any</option>
    ${values.map((value) => html`<option key=${value} value=${value} selected=${value === chosen}>${value} (${count(counts[value] ?? 0)})</option>`)}</select></label>`;
};

/** @param {{asked: ReturnType<typeof filters>, told: Row | null}} props */
const Search = ({ asked, told }) => {
  const [text, setText] = useState(asked.q);
  const due = useRef(0);
  useEffect(() => { setText(asked.q); }, [asked.q]);
  const type = (/** @type {string} */ value) => {
    setText(value);
    clearTimeout(due.current);
    due.current = window.setTimeout(() => requery({ ...asked, q: value.trim() }), 250);
  };
  const facet = (/** @type {string} */ words, /** @type {"priority" | "tier" | "agent" | "model" | "label"} */ kind, /** @type {string[]} */ known = []) => html`<${Facet} words=${words} kind=${kind} chosen=${[asked[kind]].flat()[0] ?? ""} told=${told} known=${known} choose=${(/** @type {string} */ value) => requery({ ...asked, [kind]: value })} />`;
  return html`<div class="filters" role="search"><label>Title or id <input type="search" value=${text} onInput=${(/** @type {any} */ event) => type(event.target.value)} /></label>
    ${facet("Priority", "priority", PRIORITIES)}${facet("Tier", "tier", TIERS)}${facet("Agent", "agent", tables.agents.keys.value)}${facet("Model", "model")}${facet("Label", "label")}
    ${queryOf(asked) ? html`<button type="button" onClick=${() => requery({})}>Clear</button>` : null}</div>`;
};

/** One thing to all that match, however many are on the page; counted first. @param {{asked: ReturnType<typeof filters>, again: () => void}} props */
const All = ({ asked, again }) => {
  const [busy, setBusy] = useState(false);
  if (!may("tasks:control")) return null;
  const apply = async (/** @type {Row} */ what, /** @type {string} */ words) => {
    const body = { ...what, state: asked.state, priorities: asked.priority, tier: asked.tier, agent: asked.agent, model: asked.model, label: asked.label, q: asked.q };
    setBusy(true);
    try {
      const seen = await ask("tasks/bulk", { method: "POST", body: { ...body, preview: true } });
      if (!seen.matched) say(`No task that matches can be ${words}.`);
      else if (await confirmed(`${plural(seen.matched, "task")}${seen.more ? " (and more: ask again for the rest)" : ""} will be ${words}. Go on?`)) {
        const told = await ask("tasks/bulk", { method: "POST", body: { ...body, expect: seen.matched } });
        say(`${plural(told.done, "task")} ${words}${told.refused.length ? `; not all: ${told.refused[0].why}` : ""}`, told.refused.length ? "trouble" : "");
        again();
      }
    } catch (error) { say(/** @type {Error} */ (error).message, "trouble"); }
    setBusy(false);
  };
  return html`<details class="bulk"><summary>All that match…</summary><p class="actions">
    <button type="button" disabled=${busy} onClick=${() => apply({ verb: "cancel" }, "cancelled")}>Cancel</button>
    <button type="button" disabled=${busy} onClick=${() => apply({ verb: "retry" }, "retried")}>Retry the dead</button>
    <label>New priority <select disabled=${busy} onChange=${(/** @type {any} */ event) => { const { value } = event.target; event.target.value = ""; if (value) apply({ verb: "prioritise", priority: value }, `made ${value}`); }}>
      <option value="">choose</option>${PRIORITIES.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label></p></details>`;
};

/** @param {{chosen: Set<string>, clear: () => void, again: () => void}} props */
const Chosen = ({ chosen, clear, again }) => {
  if (!chosen.size) return null;
  const all = async (/** @type {string} */ verb) => {
    if (!(await confirmed(`${verb === "cancel" ? "Cancel" : "Retry"} ${plural(chosen.size, "task")}?`))) return;
    let done = 0;
    const refused = [];
    for (const id of chosen) {
      try { await ask(`tasks/${id}/${verb}`, { method: "POST" }); done += 1; } catch (error) { refused.push(/** @type {Error} */ (error).message); }
    }
    say(`${plural(done, "task")} done${refused.length ? `; ${refused.length} refused: ${refused[0]}` : ""}`, refused.length ? "trouble" : "");
    clear();
    again();
  };
  return html`<p class="actions chosen" role="status">${plural(chosen.size, "task")} chosen <button type="button" onClick=${() => all("cancel")}>Cancel them</button>
    <button type="button" onClick=${() => all("retry")}>Retry them</button> <button type="button" class="small quiet" onClick=${clear}>Choose none</button></p>`;
};

/** Only what is in sight is drawn. @param {{list: ReturnType<typeof useList>, chosen: Set<string>, choose: (id: string, is: boolean) => void}} props */
const List = ({ list, chosen, choose }) => {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const [view, setView] = useState({ from: 0, to: 40 });
  useEffect(() => {
    const look = () => {
      const top = ref.current?.getBoundingClientRect().top ?? 0;
      const from = Math.max(0, Math.floor(-top / ROW_PX) - 10);
      const to = Math.ceil((innerHeight - top) / ROW_PX) + 10;
      setView((before) => before.from === from && before.to === to ? before : { from, to });
      if (to > list.rows.length - 20) list.more();
    };
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => { removeEventListener("scroll", look); removeEventListener("resize", look); };
  }, [list.rows.length, list.next, list.busy]);
  const shown = list.rows.slice(view.from, view.to);
  const controls = may("tasks:control");
  return html`<table class="tasks list" aria-rowcount=${list.next ? -1 : list.rows.length}><caption class="hidden">Tasks</caption>
    <thead><tr>${controls ? html`<th scope="col" class="choose"><span class="hidden">Choose</span></th>` : null}<th scope="col">State</th><th scope="col">Task</th><th scope="col">Proof</th><th scope="col">Agent</th><th scope="col">Took</th><th scope="col">Submitted</th></tr></thead>
    <tbody ref=${ref}><tr class="room" aria-hidden="true" style=${{ height: `${view.from * ROW_PX}px` }}></tr>
    ${shown.map((task, place) => html`<tr key=${task.id} aria-rowindex=${view.from + place + 1}>
      ${controls ? html`<td class="choose"><input type="checkbox" aria-label="Choose ${task.title || task.id}" checked=${chosen.has(task.id)} onChange=${(/** @type {any} */ event) => choose(task.id, event.target.checked)} /></td>` : null}
      <td class="nowrap"><${TaskState} task=${task} /></td><td><${TaskLink} task=${task} />${task.reason ? html`<div class="reason">${task.reason}</div>` : null}</td>
      <td><${Proof} task=${task} /></td><td data-label="by">${task.agent ?? ""}</td><td data-label="took"><${Took} from=${task.started_at} to=${task.ended_at} /></td>
      <td class="nowrap muted" data-label="submitted"><${When} at=${task.submitted_at} /></td></tr>`)}
    <tr class="room" aria-hidden="true" style=${{ height: `${Math.max(0, list.rows.length - view.from - shown.length) * ROW_PX}px` }}></tr></tbody></table>`;
};

/** @param {{query: URLSearchParams}} props */
const Tasks = ({ query }) => {
  const asked = filters(query);
  const list = useList(asked);
  const told = useFacets(asked, list.rows);
  const [chosen, setChosen] = useState(/** @type {Set<string>} */ (new Set()));
  const choose = (/** @type {string} */ id, /** @type {boolean} */ is) => setChosen((before) => { const after = new Set(before); if (is) after.add(id); else after.delete(id); return after; });
  return html`<div class="head"><h1>Tasks</h1><${NewTask} /></div><${Facets} asked=${asked} told=${told} /><${Search} asked=${asked} told=${told} />
    <${All} asked=${asked} again=${list.again} /><${Chosen} chosen=${chosen} clear=${() => setChosen(new Set())} again=${list.again} /><${Trouble} error=${list.error} again=${list.again} />
    ${!list.isKnown ? html`<${Loading} />` : list.rows.length ? html`<${List} list=${list} chosen=${chosen} choose=${choose} />
      <p class="muted">${list.next ? `${count(list.rows.length)}${told ? ` of ${count(told.total)}` : ""} shown, more as you scroll` : plural(list.rows.length, "task")}</p>`
    : list.error ? null : queryOf(asked) ? html`<${Empty}>No task is like that. <button type="button" onClick=${() => requery({})}>Show all</button><//>`
      : html`<${Empty} command='agentcom submit --shell "echo hello" --wait'>No task yet. Submit one:<//>`}
    <${AsApi} path=${`api/v1/tasks?${queryOf(asked)}`} cli=${`agentcom tasks ls${flags({ ...asked, q: undefined, label: asked.label.replace(":", "="), find: asked.q })}`} />`;
};

/** @param {{id: string, query: URLSearchParams}} props */
export default ({ id, query }) => id ? html`<${Task} key=${id} id=${id} />` : html`<${Tasks} query=${query} />`;
