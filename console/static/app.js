// The page put together: one connection, the workers, their DevBoxes, the terminals.

import { Connection, pageId } from "./connection.js";
import { CreateDialog } from "./create.js";
import { DevBoxDetails } from "./details.js";
import { DevBoxList } from "./devboxes.js";
import { setText } from "./dom.js";
import { Drawer } from "./drawer.js";
import { showNextStep } from "./empty.js";
import { Images } from "./images.js";
import { WorkerList } from "./workers.js";

const STATUS = { connecting: "Connecting", open: "Connected", lost: "Connecting again", refused: "Not let in" };
const REFRESH_MS = 5000;

const connection = new Connection();
let hello = null;
let refreshed = 0;

const workers = new WorkerList(() => devboxes.refresh());
const devboxes = new DevBoxList(connection, workers, { openTerminal, openDisplay, showDetails, onChange: render });
const drawer = new Drawer();
const details = new DevBoxDetails(connection, drawer, () => devboxes.refresh());
const images = new Images(connection, drawer);
const create = new CreateDialog(connection, {
  async onCreated(worker, devbox, opens) {
    workers.choose(worker.id);
    await devboxes.refresh();
    if (opens) openTerminal(devbox);
  },
});
const tabs = await loadTabs();

async function loadTabs() {
  try {
    const { Tabs } = await import("./tabs.js");
    return new Tabs(connection, workers.byId, () => render());
  } catch (error) {
    // The only part that needs xterm.js and noVNC, which are fetched when the project is built.
    document.getElementById("empty").textContent = "The terminal's files are missing: run 'make web' and reload this page.";
    throw error;
  }
}

function openTerminal(devbox) {
  closeMenu();
  tabs.add({ worker: workers.chosenId, devboxId: devbox.id });
}

function showDetails(devbox) {
  closeMenu();
  details.show(workers.chosenId, devbox);
}

function openDisplay(devbox) {
  closeMenu();
  tabs.add({ worker: workers.chosenId, devboxId: devbox.id, isDisplay: true });
}

function newDevBox() {
  if (workers.chosen?.connected) create.show(workers.chosen, devboxes.all, hello.defaultImage);
}

function render() {
  if (!tabs) return;
  const badge = document.getElementById("status");
  badge.dataset.state = connection.status;
  setText(badge, STATUS[connection.status]);
  if (devboxes.isLoaded) {
    details.update(workers.chosenId, devboxes.all);
    images.update(workers.chosenId, devboxes.all);
  }
  document.getElementById("images-section").hidden = !workers.chosen;
  document.getElementById("open-images").disabled = !workers.chosen?.connected;
  showNextStep({
    hasTerminals: tabs.open.length > 0,
    status: connection.status,
    workers: workers.byId.size,
    chosen: workers.chosen,
    devboxes,
    workerCommand: hello?.workerCommand ?? "",
    newDevBox,
    openTerminal,
  });
}

connection.addEventListener("status", render);
connection.addEventListener("hello", async ({ detail }) => {
  hello = detail;
  workers.byId.clear();
  workers.update(detail.workers);
  await devboxes.refresh(); // names for the tabs
  for (const worker of workers.byId.values()) tabs.restore(worker, pageId());
  render();
});
connection.addEventListener("message", ({ detail: message }) => {
  if (message.type === "worker") {
    const before = workers.byId.get(message.worker.id);
    workers.update([message.worker]);
    const isNew = before?.connection !== message.worker.connection || before?.connected !== message.worker.connected;
    const isDue = message.worker.id === workers.chosenId && Date.now() - refreshed > REFRESH_MS;
    if (isNew || isDue || before?.heartbeat?.containersRunning !== message.worker.heartbeat?.containersRunning) {
      refreshed = Date.now();
      devboxes.refresh();
    }
    tabs.restore(message.worker, pageId());
    render();
  } else if (message.type === "DevBox.event") {
    if (message.payload.event === "egress-denied") devboxes.note(message.payload);
    else devboxes.refresh();
  } else {
    tabs.receive(message);
    if (message.type === "terminal.exit") devboxes.refresh(); // its DevBox may have ended
  }
});

// --- The side of narrow windows -----------------------------------------------------------------------------------

const menu = document.getElementById("menu");
menu.onclick = () => {
  const isOpen = document.body.classList.toggle("menu");
  menu.setAttribute("aria-expanded", isOpen);
};

function closeMenu() {
  document.body.classList.remove("menu");
  menu.setAttribute("aria-expanded", "false");
}

document.getElementById("new-devbox").onclick = newDevBox;
document.getElementById("open-images").onclick = () => {
  closeMenu();
  images.show(workers.chosen, (id) => devboxes.nameOf(id));
};
document.querySelector("main").addEventListener("pointerdown", closeMenu);
tabs.onFailed = () => devboxes.refresh(); // what is shown there may be out of date
tabs.nameOf = (devboxId) => devboxes.nameOf(devboxId);
window.clustercode = { terminals: tabs.terminals, tabs };
connection.connect();
render();
