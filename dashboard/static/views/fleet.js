// @ts-check
// Machines: what each has, how much of it is in use and by whom, and what it does.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { computed, effect, signal } from "@preact/signals";
import { address, href, isLive, may, onEvent, requery, tables, theme } from "../store.js";
import { Act, AsApi, Bar, Command, count, Dialog, Empty, html, LiveState, Loading, plural, Scroll, size, SpaceBar, State, Trouble, UNKNOWN, useAsked, When, word } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

/** How an agent confines what work runs, as it says itself among what it offers. @param {Row} agent */
const sandboxOf = (agent) => agent.capabilities.find((/** @type {string} */ one) => one.startsWith("sandbox:"))?.slice(8) ?? "unknown";

/** @param {{gpu: Row}} props */
export const Gpu = ({ gpu }) => {
  const total = gpu.vram_total_bytes;
  const { vram_ours_bytes: ours, vram_foreign_bytes: others, vram_used_bytes: used, vram_reserved_bytes: driver } = gpu;
  const known = (ours ?? 0) + (others ?? 0);
  const rest = Math.max(0, (used ?? 0) - known);
  const free = total ? Math.max(0, total - (used ?? 0) - (driver ?? 0)) : null;
  const words = total ? `${size(used)} of ${size(total)}: ours ${size(ours)}, others ${size(others)}, free ${size(free)}` : "memory unknown";
  return html`<div class="gpu"><span class="name" title=${gpu.uuid}>${gpu.name}${gpu.index ? ` #${gpu.index}` : ""}</span>
    ${total ? html`<${Bar} total=${total} label=${words} parts=${[[ours ?? 0, "ours", `ours ${size(ours)}`], [others ?? 0, "others", `others ${size(others)}`], [rest, "held", `not told apart ${size(rest)}`], [driver ?? 0, "driver", `driver ${size(driver)}`]]} />` : html`<span class="muted">memory unknown</span>`}
    <span class="num figures">${total ? `${size(used)} / ${size(total)}` : ""} ${gpu.utilization === null ? "" : `${Math.round(gpu.utilization)} %`} ${gpu.temperature_c === null ? "" : `${Math.round(gpu.temperature_c)} \u00b0C`} ${gpu.power_w === null ? "" : `${Math.round(gpu.power_w)}${gpu.power_limit_w ? `/${Math.round(gpu.power_limit_w)}` : ""} W`}</span></div>`;
};

/** Who holds memory of a GPU. @type {Record<string, [string, string]>} */
const WHOSE = { work: ["running", "ours: an attempt"], server: ["running", "ours: an LLM server"], other: ["idle", "somebody else's"] };

/** Whether there is a GPU to take back. @param {string} host */
const hasModels = (host) => tables.gpus.of(host).length > 0 || tables.endpoints.of(host).length > 0;

/** @param {{agent: Row}} props */
const Agent = ({ agent }) => {
  const path = `agents/${encodeURIComponent(agent.name)}`;
  const isReclaimed = agent.capabilities.includes("gpu:reclaimed");
  return html`<li class="agent"><div><b>${agent.name}</b> <${LiveState} state=${agent.draining ? "draining" : agent.state} /> <span class="muted">${agent.busy} of ${plural(agent.slots, "slot")} busy, version ${agent.version}, sandbox ${sandboxOf(agent)}, seen <${When} at=${agent.last_seen_at} /></span>
    ${sandboxOf(agent) === "unsafe" ? html` <${State} state="down">work is not confined<//>` : null}</div>
    ${agent.quarantine ? html`<p class="trouble"><b>Quarantine, no work:</b> ${agent.quarantine}. When the copy is gone: ${may("agents:control") ? html`<${Act} path=${`${path}/release`} permission="agents:control" sure=${`Give ${agent.name} work again? Whoever holds its key gets it.`}>Release<//>` : html`<code>agentcom agents release ${agent.name}</code>`}</p>` : null}
    ${agent.alarm ? html`<p class="trouble">${agent.alarm} <${When} at=${agent.alarm_at} /></p>` : null}
    ${agent.tasks.length ? html`<ul class="plain">${agent.tasks.map((/** @type {string} */ id) => html`<li key=${id}><${State} state="running" /> <a href=${href("tasks", id)}>${tables.tasks.get(id)?.title || id}</a></li>`)}</ul>` : null}
    ${may("agents:control") ? html`<p class="actions">${agent.draining ? html`<${Act} path=${`${path}/resume`} permission="agents:control">Resume<//>` : html`<${Act} path=${`${path}/drain`} permission="agents:control">Drain<//>`}
      ${!isReclaimed && !hasModels(agent.host) ? null : isReclaimed ? html`<${Act} path=${`${path}/give-back`} permission="agents:control">Give the GPU back to work<//>` : html`<${Act} path=${`${path}/reclaim`} permission="agents:control" sure=${`Take the GPU of ${agent.host} back? Work of models stops there at the end of its turn.`}>Take the GPU back<//>`}
      ${agent.state === "offline" ? html`<${Act} path=${path} method="DELETE" permission="agents:control" sure=${`Forget ${agent.name}? Do this only if it is gone for good.`}>Remove<//>` : null}</p>` : null}</li>`;
};

/** @param {{host: Row}} props */
const Gauges = ({ host }) => html`<div class="gauges"><div class="gauge"><span class="muted">CPU</span>${host.cpu ? html`<${Bar} total=${100} parts=${[[host.cpu.percent, host.cpu.percent > 90 ? "tight" : "ours", `${host.cpu.percent} %`]]} label="processor ${host.cpu.percent} %" /><span class="num">${Math.round(host.cpu.percent)} % of ${host.cpu.cores}</span>` : UNKNOWN}</div>
  <${SpaceBar} label="RAM" used=${host.ram?.used_bytes} total=${host.ram?.total_bytes} /><${SpaceBar} label="disk" used=${host.disk?.used_bytes} total=${host.disk?.total_bytes} /></div>`;

/** @param {string} name */
const gpusOf = (name) => tables.gpus.of(name);
/** @param {string} name */
const agentsOf = (name) => tables.agents.of(name);
/** Models in memory of a machine. @param {string} name */
const warmOn = (name) => tables.endpoints.of(name).flatMap((one) => one.models.filter((/** @type {Row} */ model) => model.residency === "warm").map((/** @type {Row} */ model) => model.name));

const SHOWN = 3; // tasks of an agent on a card; its machine's page has all

/** @param {{name: string}} props */
const Card = ({ name }) => {
  const host = tables.hosts.get(name);
  if (!host) return null;
  const agents = agentsOf(name);
  const gpus = gpusOf(name);
  const warm = warmOn(name);
  return html`<li class=${`card ${host.online && isLive.value ? "" : "stale"}`}><h2><a href=${href("fleet", name)}>${name}</a> <${LiveState} state=${host.online ? "online" : "offline"} /></h2>
    ${agents.length ? html`<ul class="plain muted">${agents.map((agent) => html`<li key=${agent.name}>${agent.name} ${agent.busy}/${agent.slots}, version ${agent.version}, seen <${When} at=${agent.last_seen_at} />${agent.draining ? html` <${State} state="draining" />` : null}
      ${agent.tasks.slice(0, SHOWN).map((/** @type {string} */ id) => html`<div key=${id} class="does"><${State} state="running"><a href=${href("tasks", id)}>${tables.tasks.rows.get(id)?.value.title || id}</a><//></div>`)}${agent.tasks.length > SHOWN ? html`<div>and ${agent.tasks.length - SHOWN} more</div>` : null}</li>`)}</ul>` : html`<p class="muted">no agent</p>`}
    ${host.at ? html`<p class="muted">reading of <${When} at=${host.at} /></p>` : null}
    <${Gauges} host=${host} />${gpus.map((gpu) => html`<${Gpu} key=${gpu.uuid || gpu.index} gpu=${gpu} />`)}${gpus.length ? null : html`<p class="muted">${Object.values(host.notes)[0] ?? "no GPU"}</p>`}
    ${warm.length ? html`<p class="chips">${warm.map((model) => html`<span key=${model}><${State} state="warm">${model}<//></span>`)}</p>` : null}</li>`;
};

// --- one machine -------------------------------------------------------------------------------------------------------

/** The style of charts is asked for with the first of them. */
const styleCharts = () => {
  if (document.getElementById("charts")) return;
  const sheet = Object.assign(document.createElement("link"), { id: "charts", rel: "stylesheet", href: "dashboard/vendor/uplot.css" });
  document.head.append(sheet);
};

const scheme = matchMedia("(prefers-color-scheme: dark)");
const isDark = signal(scheme.matches);
scheme.addEventListener("change", () => { isDark.value = scheme.matches; });

/** Lines over time. @param {{at: string[], lines: [string, (number | null)[]][], unit: string, most?: number}} props */
const Chart = ({ at, lines, unit, most }) => {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    /** @type {any} */ let chart = null;
    let is = true;
    styleCharts();
    const stop = effect(() => {
      theme.value; // its colours are read when it is drawn
      isDark.value;
      import("uplot").then(({ default: Plot }) => {
        if (!is || !ref.current) return;
        const ink = getComputedStyle(document.body);
        const colours = ["--running", "--again", "--waiting", "--done"].map((name) => ink.getPropertyValue(name));
        const axis = { stroke: ink.getPropertyValue("--muted"), grid: { stroke: ink.getPropertyValue("--line"), width: 1 }, ticks: { stroke: ink.getPropertyValue("--line"), width: 1 } };
        chart?.destroy();
        chart = new Plot({
          width: ref.current.clientWidth, height: 180, legend: { show: false }, cursor: { show: false }, scales: { y: { range: (_plot, _low, high) => [0, most ?? Math.max(high, 1) * 1.05] } },
          axes: [axis, { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} ${unit}`), size: 64 }],
          series: [{}, ...lines.map(([label], place) => ({ label, stroke: colours[place % 4], width: 1.5, dash: place >= 4 ? [4, 3] : undefined, points: { show: false } }))],
        }, [at.map((moment) => Date.parse(moment) / 1000), ...lines.map(([, values]) => values)], ref.current);
      });
    });
    const fit = () => chart?.setSize({ width: ref.current?.clientWidth ?? 0, height: 180 });
    addEventListener("resize", fit);
    return () => { is = false; stop(); removeEventListener("resize", fit); chart?.destroy(); };
  }, [at.at(-1), lines.length]);
  return html`<p class="muted legend">${lines.map(([label], place) => html`<span key=${label}><i class="line${place % 4}"></i>${label.replaceAll("_", " ")}</span>`)}</p><div class="chart" ref=${ref}></div>`;
};

/** @param {{name: string, span: string}} props */
const History = ({ name, span }) => {
  const { told, error, again } = useAsked(`hosts/${encodeURIComponent(name)}/history?span=${span}`);
  const [asTable, setTable] = useState(false);
  useEffect(() => { const timer = setInterval(again, span === "minute" ? 5_000 : 60_000); return () => clearInterval(timer); }, [name, span]);
  if (error && !told) return html`<${Trouble} error=${error} again=${again} />`;
  if (!told) return html`<${Loading} />`;
  const lines = /** @type {[string, (number | null)[]][]} */ (told.series.map((/** @type {Row} */ one) => [one.gpu ? `${one.metric} ${gpusOf(name).find((gpu) => gpu.uuid === one.gpu)?.name ?? one.gpu}` : one.metric, one.mean]));
  const percents = lines.filter(([label]) => /percent|utili|cpu/.test(label));
  const others = lines.filter((line) => !percents.includes(line));
  const bytes = others.filter(([label]) => /bytes|ram|vram|disk|swap/.test(label)).map(([label, values]) => /** @type {[string, (number | null)[]]} */ ([label, values.map((value) => value === null ? null : value / 2 ** 30)]));
  return html`<p class="actions" role="group" aria-label="How far back">${["minute", "hour"].map((one) => html`<button type="button" key=${one} class="small" aria-pressed=${one === span} onClick=${() => requery({ span: one })}>last ${one}</button>`)}
    <button type="button" class="small" aria-pressed=${asTable} onClick=${() => setTable(!asTable)}>as a table</button></p>
    ${!told.at.length ? html`<p class="muted">No reading yet.</p>` : asTable ? html`<${Scroll} label="Readings"><table><caption class="hidden">Readings</caption><thead><tr><th scope="col">Moment</th>${lines.map(([label]) => html`<th scope="col" key=${label}>${label}</th>`)}</tr></thead>
      <tbody>${told.at.map((/** @type {string} */ at, /** @type {number} */ row) => html`<tr key=${at}><td class="nowrap"><${When} at=${at} /></td>${lines.map(([label, values]) => html`<td class="num" key=${label}>${values[row] === null ? UNKNOWN : count(Math.round(/** @type {number} */ (values[row]) * 10) / 10)}</td>`)}</tr>`)}</tbody></table><//>`
    : html`${percents.length ? html`<${Chart} at=${told.at} lines=${percents} unit="%" most=${100} />` : null}${bytes.length ? html`<${Chart} at=${told.at} lines=${bytes} unit="GiB" />` : null}`}`;
};

/** @param {{name: string, query: URLSearchParams}} props */
const Host = ({ name, query }) => {
  const host = tables.hosts.get(name);
  const agents = agentsOf(name);
  if (!host && !agents.length) return html`<p class="crumbs"><a href=${href("fleet")}>Fleet</a></p><h1>${name}</h1><p>${tables.hosts.known.value ? "There is no such machine." : "Loading\u2026"}</p>`;
  const processes = gpusOf(name).flatMap((gpu) => gpu.processes.map((/** @type {Row} */ one) => ({ ...one, gpu: gpu.name })));
  return html`<p class="crumbs"><a href=${href("fleet")}>Fleet</a></p><h1>${name} <${LiveState} state=${host?.online ? "online" : "offline"} /></h1>
    ${host ? html`<${Gauges} host=${host} />${gpusOf(name).map((gpu) => html`<${Gpu} key=${gpu.uuid || gpu.index} gpu=${gpu} />`)}
      ${Object.entries(host.notes).map(([about, note]) => html`<p key=${about} class="muted">${about}: ${note}</p>`)}` : null}
    <section aria-labelledby="agents"><h2 id="agents">Agents</h2><ul class="plain rows">${agents.map((agent) => html`<${Agent} key=${agent.name} agent=${agent} />`)}</ul></section>
    ${processes.length ? html`<section aria-labelledby="held"><h2 id="held">Who holds GPU memory</h2><table class="stack"><caption class="hidden">Programs on the GPUs</caption><thead><tr><th scope="col">Program</th><th scope="col">Whose</th><th scope="col">GPU</th><th scope="col">Memory</th></tr></thead><tbody>
      ${processes.map((one) => html`<tr key=${`${one.pid}${one.gpu}`}><th scope="row">${one.name || "a program"} <span class="muted">${one.pid}</span></th><td><${State} state=${WHOSE[one.owner]?.[0] ?? "unknown"}>${WHOSE[one.owner]?.[1] ?? one.owner}<//></td><td>${one.gpu}</td><td class="num">${size(one.vram_bytes)}</td></tr>`)}</tbody></table></section>` : null}
    <section aria-labelledby="history"><h2 id="history">History</h2><${History} name=${name} span=${query.get("span") === "hour" ? "hour" : "minute"} /></section>
    <${AsApi} path=${`api/v1/hosts/${encodeURIComponent(name)}`} cli=${`agentcom hosts show ${word(name)}`} />`;
};

// --- all of them -------------------------------------------------------------------------------------------------------

/** Machines that ask to join and have no token: their screens show the same code. */
const Waiting = () => {
  const { told, error, again } = useAsked("join-requests");
  useEffect(() => onEvent((event) => { if (event.kind.startsWith("join_") || event.kind === "machine_joined") again(); }), []);
  const waiting = told?.join_requests ?? [];
  return html`<${Trouble} error=${error} again=${again} />${waiting.length ? html`<section aria-labelledby="asking"><h2 id="asking">Machines that ask to join</h2>
    <p>Let in only what shows this very code on its own screen.</p>
    <ul class="plain rows">${waiting.map((/** @type {Row} */ one) => html`<li key=${one.code}><p><code>${one.code}</code> <b>${one.facts.host || "a machine"}</b> <span class="muted">${one.facts.system} at ${one.address}, <${When} at=${one.asked_at} /></span></p>
      <p class="actions"><${Act} path=${`join-requests/${one.code}/approve`} permission="machines:manage" class="main" done=${again}>Let it in<//> <${Act} path=${`join-requests/${one.code}/deny`} permission="machines:manage" done=${again}>Keep it out<//></p></li>`)}</ul></section>` : null}`;
};

const Add = () => {
  const [made, setMade] = useState(/** @type {Row | null} */ (null));
  const [before] = useState(() => new Set(tables.agents.keys.value));
  const joined = tables.agents.all.filter((agent) => !before.has(agent.name));
  if (!may("machines:manage")) return html`<p class="muted">Ask an operator or an administrator for a join token.</p>`;
  return html`${made ? html`<p>Run this on the new machine. It is shown only now, and good for one machine and an hour.</p><${Command} text=${made.command} />
      ${made.install ? html`<p>Or, where AgentCom is not installed:</p><${Command} text=${made.install} />` : null}
      ${made.note ? html`<p class="trouble">${made.note}</p>` : null}
      <p role="status">${joined.length ? joined.map((agent) => html`<${State} state="ok" key=${agent.name}>${agent.name} has joined<//> `) : html`<${State} state="queued">waiting for it to appear\u2026<//>`}</p>`
    : html`<p>A machine joins by one command, with a token that is made for it.</p><p><${Act} path="join-tokens" body=${{ label: "made in the dashboard", url: address }} permission="machines:manage" class="main" done=${setMade}>Make the command<//></p>
      <p class="muted">Or run <code>agentcom join ${address}</code> there: it shows a code, and you let it in here.</p>`}
    <${Waiting} />`;
};

/** Names that a table of rows comes to: who shows them is drawn again when they change, not with every figure. @param {() => string[]} find @param {any[]} of */
const useNames = (find, of) => {
  const found = useMemo(() => computed(() => find().join("\n")), of).value;
  return found ? found.split("\n") : [];
};

const Fleet = () => {
  const [adds, setAdds] = useState(false);
  const [text, setText] = useState("");
  const wanted = text.toLowerCase();
  const names = useNames(() => tables.hosts.keys.value.filter((name) => !wanted || [name, ...agentsOf(name).map((agent) => agent.name), ...gpusOf(name).map((gpu) => gpu.name), ...warmOn(name)].some((one) => one.toLowerCase().includes(wanted))), [wanted]);
  const homeless = useNames(() => tables.agents.keys.value.filter((name) => !tables.hosts.keys.value.includes(tables.agents.get(name)?.host)), []).map((name) => tables.agents.get(name) ?? {});
  return html`<h1>Fleet</h1><div class="filters" role="search"><label>Machine, agent, GPU or model <input type="search" value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)} /></label>
    <button type="button" class="main" onClick=${() => setAdds(true)}>Add a machine</button></div>
    ${adds ? html`<${Dialog} title="Add a machine" close=${() => setAdds(false)}><${Add} /><//>` : may("machines:manage") ? html`<${Waiting} />` : null}
    ${!tables.hosts.known.value ? html`<${Loading} />` : names.length ? html`<ul class="cards rows">${names.map((name) => html`<${Card} key=${name} name=${name} />`)}</ul>`
      : wanted ? html`<${Empty}>No machine is like that.<//>` : homeless.length ? null : html`<${Empty}>No machine has joined. Add one: a command for it is made here.<//>`}
    ${homeless.length ? html`<section aria-labelledby="noted"><h2 id="noted">Agents whose machine has not reported</h2><ul class="plain rows">${homeless.map((agent) => html`<${Agent} key=${agent.name} agent=${agent} />`)}</ul></section>` : null}
    <p class="muted legend"><span><i class="ours"></i>ours</span><span><i class="others"></i>others'</span><span><i class="held"></i>not told apart</span><span><i class="driver"></i>driver</span><span><i class="free"></i>free</span></p>
    <${AsApi} path="api/v1/hosts" cli="agentcom hosts" />`;
};

/** @param {{id: string, query: URLSearchParams}} props */
export default ({ id, query }) => id ? html`<${Host} key=${id} name=${id} query=${query} />` : html`<${Fleet} />`;
