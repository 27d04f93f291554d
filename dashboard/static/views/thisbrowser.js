// @ts-check
// The switch that has alerts told in this browser, also while no page of the hub is open. Nothing is asked of anybody,
// browser or push service, before somebody presses it.

import { useEffect, useState } from "preact/hooks";
import { ask, base, isLive, may } from "../store.js";
import { html, Loading } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

const script = new URL("dashboard/push.js", base);

/** Why this browser cannot be told; empty: it can. */
const hindrance = () => {
  if (!isSecureContext) return "Browsers take notifications only from pages that came over HTTPS, or from their own machine.";
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) return "This browser takes no notifications from pages. On an iPhone or iPad, put this page on the home screen and open it there.";
  if (Notification.permission === "denied") return "This browser was told not to show notifications of this page. Its settings for this site change that.";
  return "";
};

/** What it is called among those who are told. */
const called = () => {
  const agent = navigator.userAgent;
  const find = (/** @type {string[]} */ words) => words.find((word) => agent.includes(word));
  const name = { "Edg/": "Edge", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari" }[find(["Edg/", "Firefox/", "Chrome/", "Safari/"]) ?? ""];
  return `${name ?? "a browser"}${["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].filter((word) => agent.includes(word)).slice(0, 1).map((word) => ` on ${word}`).join("")}`;
};

/** By what the hub tells which one this is (`browser` of a notifier). @param {string} endpoint */
const markOf = async (endpoint) => {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(endpoint)));
  return [...hash.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

const registered = () => navigator.serviceWorker.getRegistration(new URL("./", script));

/** @param {ServiceWorkerRegistration} registration */
const active = (registration) => new Promise((done, fail) => {
  const coming = registration.active ?? registration.waiting ?? registration.installing;
  const look = () => {
    if (coming?.state === "activated") done(registration);
    else if (!coming || coming.state === "redundant") fail(new Error("the browser did not start what shows notifications"));
  };
  coming?.addEventListener("statechange", look);
  look();
});

/** @param {string} least */
const turnOn = async (least) => {
  if (await Notification.requestPermission() !== "granted") throw new Error("The browser was not allowed to show notifications of this page.");
  const { key } = await ask("notifiers/browsers/key");
  const registration = await navigator.serviceWorker.register(script);
  await active(registration);
  await (await registration.pushManager.getSubscription())?.unsubscribe(); // it may be of a key that the hub has no more
  const made = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  const { endpoint = "", keys } = made.toJSON();
  try {
    await ask("notifiers/browsers", { method: "POST", body: { endpoint, keys, label: called(), least } });
  } catch (problem) {
    await made.unsubscribe();
    throw problem;
  }
  return markOf(endpoint);
};

/** @param {Row | undefined} mine */
const turnOff = async (mine) => {
  if (mine) await ask(`notifiers/${encodeURIComponent(mine.id)}`, { method: "DELETE" });
  const registration = await registered();
  await (await registration?.pushManager.getSubscription())?.unsubscribe();
  await registration?.unregister();
  return "";
};

/** @param {{notifiers: Row[], again: () => void}} props */
export const ThisBrowser = ({ notifiers, again }) => {
  const [mark, setMark] = useState(/** @type {string | null} */ (null));
  const [least, setLeast] = useState("warning");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const why = hindrance();
  useEffect(() => {
    if (why) { setMark(""); return; }
    registered().then((found) => found?.pushManager.getSubscription()).then((one) => one ? markOf(one.endpoint) : "").then(setMark, () => setMark(""));
  }, [why]);
  if (mark === null) return html`<${Loading} />`;
  const mine = notifiers.find((one) => mark && one.browser === mark);
  const turn = async (/** @type {any} */ event) => {
    setBusy(true);
    setError("");
    try {
      setMark(event.target.checked ? await turnOn(least) : await turnOff(mine));
    } catch (problem) {
      setError(/** @type {Error} */ (problem).message);
      event.target.checked = Boolean(mine);
    }
    setBusy(false);
    again();
  };
  return html`<section aria-labelledby="this-browser"><h2 id="this-browser">This browser</h2>
    <p><label><input type="checkbox" role="switch" checked=${Boolean(mine)} disabled=${busy || (why && !mine) || !may("alerts:write") || !isLive.value} onChange=${turn} /> Tell me in this browser</label>
      ${mine ? null : html` <label>alerts from <select disabled=${busy || Boolean(why)} onChange=${(/** @type {any} */ event) => setLeast(event.target.value)}><option selected=${least === "critical"}>critical</option><option selected=${least === "warning"}>warning</option><option selected=${least === "info"}>info</option></select></label>`}</p>
    ${why ? html`<p class="muted">${why}</p>` : mine ? html`<p class="muted">Alerts come here as ${mine.label}, also when no page of the hub is open.</p>` : mark ? html`<p class="muted">The hub does not tell this browser any more. Turn it on again to be told.</p>` : null}
    ${error ? html`<p class="trouble" role="alert">${error}</p>` : null}</section>`;
};
