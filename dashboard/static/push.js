// @ts-check
// What a browser runs while no page of the hub is open: it shows the alerts that are sent to it, and opens their page. It
// keeps nothing, stands between no page and the hub, and asks the hub for nothing. (Turned on in views/thisbrowser.js.)

const worker = /** @type {any} */ (self);
/** The hub, also below a path of a proxy: this file is in a folder of it. */
const home = new URL("../", worker.location.href);
const ID = /^[0-9a-z]{1,40}$/;

/** What was sent; whoever can write that is the hub, but words are words. @param {any} data @returns {Record<string, unknown>} */
const read = (data) => {
  try { return data.json() ?? {}; } catch { return {}; }
};

/** @param {Record<string, unknown>} told */
const show = (told) => {
  const alert = typeof told.alert === "string" && ID.test(told.alert) ? told.alert : "";
  return worker.registration.showNotification(String(told.title ?? "AgentCom"), {
    body: String(told.body ?? ""),
    icon: new URL("dashboard/icon-trouble.svg", home).href,
    data: new URL(alert ? `#/alerts?alert=${alert}` : "#/alerts", home).href,
    // That an alert has ended takes the place of that it has fired, without a sound.
    ...(alert ? { tag: alert, renotify: told.event !== "resolved" } : {}),
  });
};

/** @param {string} address */
const lead = async (address) => {
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = pages.find((/** @type {any} */ page) => page.url === address);
  return there ? there.focus() : worker.clients.openWindow(address);
};

worker.addEventListener("install", () => worker.skipWaiting());
worker.addEventListener("push", (/** @type {any} */ event) => event.waitUntil(show(read(event.data))));
worker.addEventListener("notificationclick", (/** @type {any} */ event) => {
  event.notification.close();
  event.waitUntil(lead(event.notification.data));
});
