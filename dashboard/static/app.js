// @ts-check
// The frame around the views: where to go, how fresh the page is, keys, colours.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { effect } from "@preact/signals";
import { CHOICES, connect, firing, heardAt, href, hub, leave, link, listed, me, now, clockMode, route, singleKeys, tables, theme } from "./store.js";
import { Confirm, Dialog, Guard, html, Loading, Toasts } from "./ui.js";

/** `needs`: the right without which a view would be empty. @type {Record<string, {title: string, key: string, needs?: string, load: () => Promise<any>}>} */
const VIEWS = {
  overview: { title: "Overview", key: "o", load: () => import("./views/overview.js") },
  tasks: { title: "Tasks", key: "t", load: () => import("./views/tasks.js") },
  fleet: { title: "Fleet", key: "f", load: () => import("./views/fleet.js") },
  models: { title: "Models", key: "m", load: () => import("./views/models.js") },
  reviews: { title: "Reviews", key: "r", load: () => import("./views/reviews.js") },
  alerts: { title: "Alerts", key: "a", needs: "alerts:read", load: () => import("./views/alerts.js") },
  logs: { title: "Logs", key: "l", load: () => import("./views/logs.js") },
  events: { title: "Events", key: "e", load: () => import("./views/events.js") },
  costs: { title: "Costs", key: "c", load: () => import("./views/costs.js") },
  settings: { title: "Settings", key: "s", load: () => import("./views/settings.js") },
};

// --- views -----------------------------------------------------------------------------------------------------------

/** @type {Promise<unknown> | null} */
let styled = null;
/** The style of what is behind the first view. */
const style = () => styled ??= new Promise((done) => {
  const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "dashboard/views.css" });
  sheet.onload = sheet.onerror = done;
  document.head.append(sheet);
});

const View = () => {
  const { view, id, query } = route.value;
  const [loaded, setLoaded] = useState(/** @type {{view: string, show: any, error: Error | null}} */ ({ view: "", show: null, error: null }));
  useEffect(() => {
    let is = true;
    const known = VIEWS[view];
    if (!known) { setLoaded({ view, show: null, error: new Error(`there is no page named ${view}`) }); return; }
    (view === "overview" ? known.load() : Promise.all([known.load(), style()]).then(([module]) => module)).then((module) => is && setLoaded({ view, show: module.default, error: null }), (error) => is && setLoaded({ view, show: null, error }));
    return () => { is = false; };
  }, [view]);
  if (loaded.view !== view) return html`<${Loading} />`;
  if (loaded.error) return html`<p class="trouble" role="alert">${loaded.error.message}. <a href=${href("overview")}>Overview</a></p>`;
  return html`<${Guard} of=${`${view}/${id}`}><${loaded.show} id=${id} query=${query} /><//>`;
};

// --- the frame -------------------------------------------------------------------------------------------------------

const Freshness = () => {
  const age = heardAt.value ? Math.max(0, Math.round((now.value - heardAt.value) / 1000)) : null;
  if (link.value === "live") return html`<span class="fresh live" role="status"><span aria-hidden="true">\u25cf</span> live</span>`;
  return html`<span class="fresh" role="status">${age === null ? "connecting" : `? ${age} s old`}</span>`;
};

const Banner = () => {
  if (link.value === "over") return html`<p class="banner" role="alert">The session has ended. <a href="./">Log in again</a></p>`;
  if (link.value === "lost" && heardAt.value) return html`<p class="banner" role="alert">Reconnecting, data from ${Math.max(0, Math.round((now.value - heardAt.value) / 1000))} s ago. What is shown is what was known then.</p>`;
  if (me.value.read_only) return html`<p class="banner" role="alert">This hub is read-only: it shows what its store holds, and changes nothing. <code>agentcom doctor</code> tells what to do.</p>`;
  return null;
};

/** What a view counts beside its name. @type {Record<string, () => number>} */
const BADGES = { reviews: () => listed("waiting").length, alerts: () => firing.value };

const Nav = () => {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    // On a phone not all views fit: the one that is shown is.
    const here = /** @type {HTMLElement | null | undefined} */ (ref.current?.querySelector("[aria-current]"));
    if (ref.current && here) ref.current.scrollLeft = here.offsetLeft - (ref.current.clientWidth - here.clientWidth) / 2;
  }, [route.value.view]);
  return html`<nav aria-label="Views" ref=${ref}>${Object.entries(VIEWS).filter(([, { needs }]) => !needs || me.value.may.includes(needs)).map(([name, { title }]) => html`
    <a key=${name} href=${href(name)} aria-current=${route.value.view === name ? "page" : undefined}>${title}${BADGES[name]?.() ? html` <span class="badge">${BADGES[name]()}</span>` : null}</a>`)}</nav>`;
};

/** @param {{name: string, choice: {value: string}, values: string[]}} props */
const Cycle = ({ name, choice, values }) => html`<button type="button" class="small quiet" title="${name}: ${values.join(", ")}"
  onClick=${() => { choice.value = values[(values.indexOf(choice.value) + 1) % values.length]; }}><span class="muted">${name}</span> ${choice.value}</button>`;

const Shell = () => {
  const [open, setOpen] = useState("");
  useEffect(() => {
    openers.palette = () => setOpen("palette");
    openers.help = () => setOpen("help");
  }, []);
  return html`<header class="top"><a class="brand" href=${href("overview")}>AgentCom</a><${Nav} />
      <span class="tools"><button type="button" class="small quiet" onClick=${() => setOpen("palette")} aria-label="Go to or find">Find <kbd>Ctrl K</kbd></button>
      <${Cycle} name="theme" choice=${theme} values=${CHOICES.theme} /><${Cycle} name="time" choice=${clockMode} values=${CHOICES.clock} />
      <button type="button" class="small quiet" onClick=${() => setOpen("help")} aria-label="Keys">?</button>
      <button type="button" class="small quiet" onClick=${leave}>Log out</button></span><${Freshness} /></header>
    <${Banner} /><main id="main" tabIndex="-1"><${View} /></main>
    ${open === "palette" ? html`<${Palette} close=${() => setOpen("")} />` : null}
    ${open === "help" ? html`<${Help} close=${() => setOpen("")} />` : null}<${Confirm} /><${Toasts} />`;
};

// --- keys ------------------------------------------------------------------------------------------------------------

const openers = { palette: () => {}, help: () => {} };
const KEYS = [["Ctrl K", "go to a view, a task, an agent or a machine"], ["/", "filter this view"], ["j  k", "next, previous row"], ["Enter", "open it"],
  ["Esc", "close"], ...Object.values(VIEWS).map(({ title, key }) => [`g ${key}`, title]), ["?", "this list"]];

/** @param {{close: () => void}} props */
const Help = ({ close }) => html`<${Dialog} title="Keys" close=${close}><table class="keys"><tbody>${KEYS.map(([key, does]) => html`
  <tr key=${key}><th scope="row"><kbd>${key}</kbd></th><td>${does}</td></tr>`)}</tbody></table>
  <p><label><input type="checkbox" checked=${singleKeys.value === "on"} onChange=${(/** @type {any} */ event) => { singleKeys.value = event.target.checked ? "on" : "off"; }} /> Keys without Ctrl do something</label></p><//>`;

/** @returns {{words: string, kind: string, to: string}[]} */
const places = () => [
  ...Object.entries(VIEWS).map(([name, { title }]) => ({ words: title, kind: "view", to: href(name) })),
  ...tables.tasks.all.map((task) => ({ words: task.title || task.id, kind: `task, ${task.state}`, to: href("tasks", task.id) })),
  ...tables.hosts.all.map((host) => ({ words: host.name, kind: "machine", to: href("fleet", host.name) })),
  ...tables.agents.all.map((agent) => ({ words: agent.name, kind: `agent, ${agent.state}`, to: href("fleet", agent.host) })),
  ...tables.endpoints.all.map((one) => ({ words: one.host ? `${one.id} on ${one.host}` : one.id, kind: "endpoint", to: href("models", "", { q: one.host || one.id }) })),
];

/** @param {{close: () => void}} props */
const Palette = ({ close }) => {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = places().filter(({ words, kind }) => wanted.every((word) => `${words} ${kind}`.toLowerCase().includes(word))).slice(0, 12);
  if (text.trim()) found.push({ words: `Search all tasks for \u201c${text.trim()}\u201d`, kind: "search", to: href("tasks", "", { q: text.trim() }) });
  const go = (/** @type {string} */ to) => { close(); location.hash = to; };
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "ArrowDown") setAt(Math.min(found.length - 1, at + 1));
    else if (event.key === "ArrowUp") setAt(Math.max(0, at - 1));
    else if (event.key === "Enter" && found[at]) go(found[at].to);
    else return;
    event.preventDefault();
  };
  return html`<${Dialog} title="Go to" close=${close} class="palette">
    <input type="search" autofocus aria-label="Go to or find" placeholder="view, task, agent, machine" value=${text} role="combobox" aria-expanded="true" aria-controls="found"
      aria-activedescendant=${found[at] ? `found-${at}` : undefined} onInput=${(/** @type {any} */ event) => { setText(event.target.value); setAt(0); }} onKeyDown=${onKey} />
    <ul id="found" role="listbox" aria-label="Found">${found.map((one, place) => html`<li key=${one.to + one.words} id=${`found-${place}`} role="option" aria-selected=${place === at}
      onClick=${() => go(one.to)}><span>${one.words}</span> <span class="muted">${one.kind}</span></li>`)}</ul><//>`;
};

let prefix = 0; // when `g` was pressed

const move = (/** @type {number} */ step) => {
  const links = [...document.querySelectorAll("main tbody tr td a[href], main .rows > li a[href]")].filter((one, place, all) =>
    all.findIndex((other) => other.closest("tr, li") === one.closest("tr, li")) === place);
  if (!links.length) return;
  const at = links.findIndex((one) => one.closest("tr, li")?.contains(document.activeElement));
  /** @type {HTMLElement} */ (links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step))]).focus();
};

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); openers.palette(); return; }
  const target = /** @type {HTMLElement} */ (event.target);
  if (singleKeys.value !== "on" || event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog, [contenteditable]")) return;
  if (Date.now() - prefix < 1_500) {
    prefix = 0;
    const found = Object.entries(VIEWS).find(([, { key }]) => key === event.key);
    if (found) { event.preventDefault(); location.hash = href(found[0]); }
    return;
  }
  if (event.key === "g") prefix = Date.now();
  else if (event.key === "?") openers.help();
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "/") {
    const filter = /** @type {HTMLElement | null} */ (document.querySelector("main input[type=search]"));
    if (filter) { event.preventDefault(); filter.focus(); }
  }
});

// --- what is outside of the page ---------------------------------------------------------------------------------------

/** As data: that something is wrong is shown without asking the hub for a picture. @param {string} ink @param {string} [more] */
const icon = (ink, more = "") => `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="${ink}"><circle cx="8" cy="3" r="2.5"/><circle cx="3" cy="12" r="2.5"/><circle cx="13" cy="12" r="2.5"/></g><path d="M8 3 3 12h10z" fill="none" stroke="${ink}" stroke-width="1.5"/>${more}</svg>`)}`;
const WELL = icon("#4f7fc4");
const TROUBLE = icon("#8c959f", '<circle cx="10.5" cy="10.5" r="5.5" fill="#cd400e"/><path d="M10.5 7.5v3.5m0 1.6v1" stroke="#fff" stroke-width="1.8"/>');

effect(() => { document.documentElement.dataset.theme = theme.value; });
effect(() => { document.body.dataset.link = link.value; });
effect(() => {
  const waiting = listed("waiting").length + firing.value;
  const health = hub.value?.state;
  const isNew = link.value === "connecting" && !heardAt.peek();
  const trouble = isNew ? "" : link.value !== "live" ? "? " : firing.value || (health && health !== "ok") ? "! " : "";
  document.title = `${trouble}${waiting ? `(${waiting}) ` : ""}${VIEWS[route.value.view]?.title ?? "AgentCom"} \u00b7 AgentCom`;
  const shown = /** @type {HTMLLinkElement} */ (document.getElementById("icon"));
  const wanted = trouble ? TROUBLE : WELL;
  if (shown.href !== wanted) shown.href = wanted;
});
let shown = route.value.view;
effect(() => {
  if (route.value.view === shown) return;
  shown = route.value.view;
  document.getElementById("main")?.focus({ preventScroll: true });
  scrollTo(0, 0);
});

connect();
const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.replaceChildren();
render(html`<${Shell} />`, root);
