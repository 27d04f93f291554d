// @ts-check
// Machines: what each has, how much of it is in use and by whom, and what it does.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { computed, effect, signal } from "@preact/signals";
import { address, clockMode, href, isLive, may, onEvent, requery, tables, theme } from "../store.js";
import { Act, AsApi, Bar, Command, count, Dialog, Empty, html, LiveState, Loading, plural, Scroll, size, SpaceBar, State, Trouble, UNKNOWN, useAsked, When, wide, word } from "../ui.js";

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
    <span class="num figures">${total ? `${wide(size(used), 8)} / ${size(total)}` : ""} ${gpu.utilization === null ? "" : `${wide(Math.round(gpu.utilization), 3)} %`} ${gpu.temperature_c === null ? "" : `${wide(Math.round(gpu.temperature_c), 3)} \u00b0C`} ${gpu.power_w === null ? "" : `${wide(Math.round(gpu.power_w), 3)}${gpu.power_limit_w ? `/${Math.round(gpu.power_limit_w)}` : ""} W`}</span></div>`;
};

/** Who holds memory of a GPU. @type {Record<string, [string, string]>} */
const WHOSE = { work: ["running", "ours: an attempt"], server: ["running", "ours: an LLM server"], other: ["idle", "somebody else's"] };

/** Whether there is a GPU to take back. @param {string} host */
const hasModels = (host) => tables.gpus.of(host).length > 0 || tables.endpoints.of(host).length > 0;

/** What is wrong with an agent, and what to do about it. @param {{agent: Row}} props */
const Troubles = ({ agent }) => html`
  ${agent.quarantine ? html`<div class="trouble"><p><b>In quarantine, it gets no work:</b> ${agent.quarantine}. Find out which of the two is the copy and stop it; then</p>
    <p class="actions">${may("agents:control") ? html`<${Act} path=${`agents/${encodeURIComponent(agent.name)}/release`} permission="agents:control" sure=${`Give ${agent.name} work again? Whoever holds its key gets it.`}>Release it<//>` : html`<code>agentcom agents release ${word(agent.name)}</code>`} <a href=${href("alerts", "runbooks", { rule: "agent_cloned" })}>What to do</a></p></div>` : null}
  ${agent.alarm && !agent.quarantine ? html`<p class="trouble">${agent.alarm} <span class="muted"><${When} at=${agent.alarm_at} /></span></p>` : null}
  ${agent.shut_out_until ? html`<p class="trouble">Shut out, it does not keep to the protocol: ${agent.violation}. Let in again <${When} at=${agent.shut_out_until} /></p>` : null}
  ${agent.upgrade ? html`<p><${State} state="loading">upgrade: ${agent.upgrade}<//></p>` : agent.upgrade_failed ? html`<p class="trouble">The upgrade has failed: ${agent.upgrade_failed}</p>` : null}`;

/** @param {{agent: Row}} props */
const Agent = ({ agent }) => {
  const path = `agents/${encodeURIComponent(agent.name)}`;
  const isReclaimed = agent.capabilities.includes("gpu:reclaimed");
  return html`<li class="agent"><div><b>${agent.name}</b> <${LiveState} state=${agent.draining ? "draining" : agent.state} /> <span class="muted">${agent.busy} of ${plural(agent.slots, "slot")} busy, version ${agent.version}, sandbox ${sandboxOf(agent)}, seen <${When} at=${agent.last_seen_at} /></span>
    ${sandboxOf(agent) === "unsafe" ? html` <${State} state="down">work is not confined<//>` : null}</div>
    <${Troubles} agent=${agent} />
    ${agent.tasks.length ? html`<ul class="plain">${agent.tasks.map((/** @type {string} */ id) => html`<li key=${id}><${State} state="running" /> <a href=${href("tasks", id)}>${tables.tasks.get(id)?.title || id}</a></li>`)}</ul>` : null}
    ${may("agents:control") ? html`<p class="actions">${agent.draining ? html`<${Act} path=${`${path}/resume`} permission="agents:control">Resume<//>` : html`<${Act} path=${`${path}/drain`} permission="agents:control">Drain<//>`}
      ${!isReclaimed && !hasModels(agent.host) ? null : isReclaimed ? html`<${Act} path=${`${path}/give-back`} permission="agents:control">Give the GPU back to work<//>` : html`<${Act} path=${`${path}/reclaim`} permission="agents:control" sure=${`Take the GPU of ${agent.host} back? Work of models stops there at the end of its turn.`}>Take the GPU back<//>`}
      ${agent.state === "offline" ? html`<${Act} path=${path} method="DELETE" permission="agents:control" sure=${`Forget ${agent.name}? Do this only if it is gone for good.`}>Remove<//>` : null}</p>` : null}</li>`;
};

/** @param {{host: Row}} props */
const Gauges = ({ host }) => html`<div class="gauges"><div class="gauge"><span class="muted">CPU</span>${host.cpu ? html`<${Bar} total=${100} parts=${[[host.cpu.percent, host.cpu.percent > 90 ? "tight" : "ours", `${host.cpu.percent} %`]]} label="processor ${host.cpu.percent} %" /><span class="num">${wide(Math.round(host.cpu.percent), 3)} % of ${host.cpu.cores}</span>` : UNKNOWN}</div>
  <${SpaceBar} label="RAM" used=${host.ram?.used_bytes} total=${host.ram?.total_bytes} /><${SpaceBar} label="disk" used=${host.disk?.used_bytes} total=${host.disk?.total_bytes} /></div>`;

/** @param {string} name */
const gpusOf = (name) => tables.gpus.of(name);
/** @param {string} name */
const agentsOf = (name) => tables.agents.of(name);
/** Models in memory of a machine. @param {string} name */
const warmOn = (name) => tables.endpoints.of(name).filter((one) => one.local).flatMap((one) => one.models.filter((/** @type {Row} */ model) => model.residency === "warm").map((/** @type {Row} */ model) => model.name));

const SHOWN = 3; // tasks of an agent on a card; its machine's page has all

/** @param {{name: string}} props */
const Card = ({ name }) => {
  const host = tables.hosts.get(name);
  if (!host) return null;
  const agents = agentsOf(name);
  const gpus = gpusOf(name);
  const warm = warmOn(name);
  return html`<li class=${`card ${host.online && isLive.value ? "" : "stale"}`}><h2><a href=${href("fleet", name)}>${name}</a> <${LiveState} state=${host.online ? "online" : "offline"} /></h2>
    ${agents.length ? html`<ul class="plain">${agents.map((agent) => html`<li key=${agent.name}><b>${agent.name}</b> <${LiveState} state=${agent.draining ? "draining" : agent.state} /><div class="does muted">${agent.busy} of ${plural(agent.slots, "slot")} busy, version ${agent.version}, seen <${When} at=${agent.last_seen_at} /></div><${Troubles} agent=${agent} />
      ${agent.tasks.slice(0, SHOWN).map((/** @type {string} */ id) => html`<div key=${id} class="does"><${State} state="running"><a href=${href("tasks", id)}>${tables.tasks.rows.get(id)?.value.title || id}</a><//></div>`)}${agent.tasks.length > SHOWN ? html`<div>and ${agent.tasks.length - SHOWN} more</div>` : null}</li>`)}</ul>` : html`<p class="muted">no agent</p>`}
    ${host.at ? html`<p class="muted">read <${When} at=${host.at} /></p>` : null}
    <${Gauges} host=${host} />${gpus.map((gpu) => html`<${Gpu} key=${gpu.uuid || gpu.index} gpu=${gpu} />`)}${gpus.length ? null : html`<p class="muted" title=${host.notes.gpu ?? ""}>${(host.notes.gpu ?? "none").startsWith("none") ? "no GPU" : host.notes.gpu}</p>`}
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

/** The time of day of a tick; ages would move under the line. @param {number} at seconds */
const clock = (at) => { const moment = new Date(at * 1000); return clockMode.value === "utc" ? moment.toISOString().slice(11, 19) : moment.toLocaleTimeString([], { hour12: false }); };

/** Lines over time. @param {{at: string[], lines: [string, (number | null)[]][], unit: string, most?: number}} props */
const Chart = ({ at, lines, unit, most }) => {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    /** @type {any} */ let chart = null;
    let is = true;
    styleCharts();
    const stop = effect(() => {
      theme.value; // its colours are read when it is drawn
      clockMode.value;
      isDark.value;
      import("uplot").then(({ default: Plot }) => {
        if (!is || !ref.current) return;
        const ink = getComputedStyle(document.body);
        const colours = ["--running", "--again", "--waiting", "--done"].map((name) => ink.getPropertyValue(name));
        const axis = { stroke: ink.getPropertyValue("--muted"), grid: { stroke: ink.getPropertyValue("--line"), width: 1 }, ticks: { stroke: ink.getPropertyValue("--line"), width: 1 } };
        chart?.destroy();
        chart = new Plot({
          width: ref.current.clientWidth, height: 180, legend: { show: false }, cursor: { show: false }, scales: { y: { range: (_plot, _low, high) => [0, most ?? Math.max(high, 1) * 1.05] } },
          axes: [{ ...axis, values: (_, ticks) => ticks.map(clock) }, { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} ${unit}`), size: 64 }],
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

/** What the newest reading of a machine says of a figure of its history. @param {string} name @param {{metric: string, gpu: string}} one @returns {number | null} */
const readingOf = (name, { metric, gpu }) => {
  const row = gpu ? gpusOf(name).find((each) => (each.uuid || `${each.vendor}:${each.index}`) === gpu) : tables.hosts.get(name);
  if (gpu || metric in (row ?? {})) return row?.[metric] ?? null;
  const [part, ...field] = metric.split("_");
  return row?.[part]?.[field.join("_")] ?? null;
};

const SPAN_S = /** @type {Record<string, [number, number]>} */ ({ minute: [60, 0], hour: [3_600, 60] });

/** The history of a machine: asked for once, and then what its readings tell anyway. @param {string} name @param {string} span */
const useHistory = (name, span) => {
  const { told, error, again } = useAsked(`hosts/${encodeURIComponent(name)}/history?span=${span}`);
  const since = useRef({ of: /** @type {any} */ (null), at: /** @type {string[]} */ ([]), values: /** @type {(number | null)[][]} */ ([]) });
  const readAt = tables.hosts.get(name)?.at;
  useEffect(() => { if (told && !told.at.length && readAt) again(); }, [readAt]); // its figures are not named yet
  if (!told) return { told, error, again };
  if (since.current.of !== told) since.current = { of: told, at: [], values: told.series.map(() => []) };
  const { at, values } = since.current;
  const [back, step] = SPAN_S[span];
  const last = at.at(-1) ?? told.at.at(-1);
  if (readAt && (!last || Date.parse(readAt) - Date.parse(last) > step * 1000)) {
    at.push(readAt);
    told.series.forEach((/** @type {any} */ one, /** @type {number} */ place) => values[place].push(readingOf(name, one)));
  }
  const all = [...told.at, ...at];
  const from = Math.max(0, all.findIndex((each) => Date.parse(each) >= Date.parse(all.at(-1) ?? "") - back * 1000));
  return { told: { at: all.slice(from), series: told.series.map((/** @type {Row} */ one, /** @type {number} */ place) => ({ ...one, mean: [...one.mean, ...values[place]].slice(from) })) }, error, again };
};

/** @param {{name: string, span: string}} props */
const History = ({ name, span }) => {
  const { told, error, again } = useHistory(name, span);
  const [asTable, setTable] = useState(false);
  if (error && !told) return html`<${Trouble} error=${error} again=${again} />`;
  if (!told) return html`<${Loading} />`;
  const lines = /** @type {[string, (number | null)[]][]} */ (told.series.map((/** @type {Row} */ one) => [one.gpu ? `${one.metric} ${gpusOf(name).find((gpu) => gpu.uuid === one.gpu)?.name ?? one.gpu}` : one.metric, one.mean]));
  const percents = lines.filter(([label]) => /percent|utili|cpu/.test(label));
  const others = lines.filter((line) => !percents.includes(line));
  const gib = (/** @type {[string, (number | null)[]]} */ [label, values]) => /** @type {[string, (number | null)[]]} */ ([label.replace("_bytes", ""), values.map((value) => value === null ? null : value / 2 ** 30)]);
  const memory = others.filter(([label]) => /ram|swap/.test(label)).map(gib);
  const disk = others.filter(([label]) => /disk/.test(label)).map(gib);
  return html`<p class="actions" role="group" aria-label="How far back">${["minute", "hour"].map((one) => html`<button type="button" key=${one} class="small" aria-pressed=${one === span} onClick=${() => requery({ span: one })}>last ${one}</button>`)}
    <button type="button" class="small" aria-pressed=${asTable} onClick=${() => setTable(!asTable)}>as a table</button></p>
    ${!told.at.length ? html`<p class="muted">No reading yet.</p>` : asTable ? html`<${Scroll} label="Readings"><table><caption class="hidden">Readings</caption><thead><tr><th scope="col">Moment</th>${lines.map(([label]) => html`<th scope="col" key=${label}>${label}</th>`)}</tr></thead>
      <tbody>${told.at.map((/** @type {string} */ at, /** @type {number} */ row) => html`<tr key=${at}><td class="nowrap"><${When} at=${at} /></td>${lines.map(([label, values]) => html`<td class="num" key=${label}>${values[row] === null ? UNKNOWN : count(Math.round(/** @type {number} */ (values[row]) * 10) / 10)}</td>`)}</tr>`)}</tbody></table><//>`
    : html`${percents.length ? html`<${Chart} at=${told.at} lines=${percents} unit="%" most=${100} />` : null}${[memory, disk].map((some) => some.length ? html`<${Chart} key=${some[0][0]} at=${told.at} lines=${some} unit="GiB" />` : null)}`}`;
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
      : wanted ? html`<${Empty}>No machine is like that.<//>` : homeless.length ? null : html`<${Empty} command=${`agentcom join ${address}`}>No machine has joined. Add one here, or run this there:<//>`}
    ${homeless.length ? html`<section aria-labelledby="noted"><h2 id="noted">Agents whose machine has not reported</h2><ul class="plain rows">${homeless.map((agent) => html`<${Agent} key=${agent.name} agent=${agent} />`)}</ul></section>` : null}
    <p class="muted legend"><span><i class="ours"></i>ours</span><span><i class="others"></i>others'</span><span><i class="held"></i>not told apart</span><span><i class="driver"></i>driver</span><span><i class="free"></i>free</span></p>
    <${AsApi} path="api/v1/hosts" cli="agentcom hosts" />`;
};

/** @param {{id: string, query: URLSearchParams}} props */
export default ({ id, query }) => id ? html`<${Host} key=${id} name=${id} query=${query} />` : html`<${Fleet} />`;
