// What the page says where terminals would be while there are none: the next step.

import { h } from "./dom.js";

const area = document.getElementById("empty");
let shown = "";

/** Show the step that comes next, or nothing while a terminal is open. */
export function showNextStep({ hasTerminals, status, workers, chosen, devboxes, workerCommand, newDevBox, openTerminal }) {
  const away = chosen && !chosen.connected;
  const running = devboxes.all.filter(({ state }) => state === "running");
  const key = JSON.stringify([hasTerminals, status, workers, chosen?.id, away, devboxes.isLoaded, devboxes.all.map(({ id, state }) => [id, state]), workerCommand]);
  if (key === shown) return;
  shown = key;
  area.hidden = hasTerminals;
  if (hasTerminals) return;
  if (status === "refused") say("Open the console's address again", "The console was started anew and does not know this page. Open the address that it printed; your terminals come back with it.");
  else if (status !== "open") say(status === "connecting" ? "Connecting" : "The console does not answer", status === "connecting" ? "" : "It may have been stopped. This page connects again by itself once it runs.");
  else if (workers === 0) say("Start a worker", "A worker runs DevBoxes on a machine. Start one here, in another shell:", command(workerCommand), h("p", { className: "hint" }, "It appears on the left within a second."));
  else if (away) say("This worker is away", "Its DevBoxes and terminals go on. They are here again when it returns.");
  else if (!devboxes.isLoaded) say("Asking the worker", "");
  else if (devboxes.all.length === 0) say("Make your first DevBox", "A DevBox is a container of your own with a shell in it. Its files and processes are apart from the machine's own.", h("button", { className: "primary", "data-testid": "first-devbox", onclick: newDevBox }, "New DevBox"));
  else if (running.length === 0) say("Start a DevBox", "None of them runs now. Start one on the left, then open a terminal.");
  else say("Open a terminal", "Each tab is a shell of its own. It goes on when you close this page, and is here when you come back.",
    h("div", { className: "choices" }, ...running.slice(0, 6).map((box) => h("button", { "data-testid": "empty-open", onclick: () => openTerminal(box) }, box.name))));
}

function say(title, text, ...more) {
  area.replaceChildren(h("div", {}, h("h2", {}, title), h("p", {}, text), ...more));
}

function command(text) {
  const copy = h("button", { className: "quiet", "data-testid": "copy-command", onclick: async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  } }, "Copy");
  return h("div", { className: "command" }, h("code", { "data-testid": "worker-command" }, ...text.split(/(?=--)/).map((part) => h("span", {}, part))), copy);
}
