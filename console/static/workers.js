// The list of workers with their live figures; one of them is the chosen one.

import { h, keyed, setText } from "./dom.js";
import { bytes, duration } from "./format.js";

const CHOSEN = "clustercode.worker";

export class WorkerList {
  byId = new Map();
  chosenId = localStorage.getItem(CHOSEN);

  #running = new Map(); // id -> how many DevBoxes run, counted since its last heartbeat

  #list = document.getElementById("workers");
  #none = document.getElementById("no-workers");

  constructor(onChoose) {
    this.onChoose = onChoose;
    setInterval(() => this.render(), 30_000); // "for 5 min" goes on without a push
  }

  get chosen() {
    return this.byId.get(this.chosenId);
  }

  update(workers) {
    for (const worker of workers) {
      if (!sameHeartbeat(worker, this.byId.get(worker.id))) this.#running.delete(worker.id);
      this.byId.set(worker.id, worker);
    }
    const first = [...this.byId.values()].find((worker) => worker.connected) ?? [...this.byId.values()][0];
    if (first && !this.chosen) this.chosenId = first.id;
    this.render();
  }

  /** Learn how many of a worker's DevBoxes run, ahead of its next heartbeat. */
  counted(id, running) {
    this.#running.set(id, running);
    this.render();
  }

  choose(id) {
    this.chosenId = id;
    localStorage.setItem(CHOSEN, id);
    this.render();
    this.onChoose();
  }

  render() {
    this.#none.hidden = this.byId.size > 0;
    keyed(this.#list, [...this.byId.values()], (worker) => worker.id, (worker) => this.#create(worker), (card, worker) => this.#fill(card, worker));
  }

  #create({ id }) {
    return h("button", { className: "worker", "data-testid": "worker", "data-worker": id, onclick: () => this.choose(id) },
      h("span", { className: "head" }, h("i", { className: "dot" }), h("strong"), h("span", { className: "since" })),
      h("span", { className: "meters" }, meter("cpu", "CPU"), meter("memory", "Memory"), meter("disk", "Disk")),
      h("span", { className: "boxes", "data-testid": "worker-boxes" }),
      h("span", { className: "trouble", "data-testid": "worker-trouble", role: "status" }));
  }

  #fill(card, { id, connected, since, register, heartbeat }) {
    card.setAttribute("aria-pressed", id === this.chosenId);
    card.dataset.state = connected ? "connected" : "away";
    const find = (selector) => card.querySelector(selector);
    setText(find("strong"), register?.name ?? id);
    const time = duration(Date.now() - since);
    setText(find(".since"), connected ? time : `away ${time}`);
    card.title = register ? `${register.hostname}, ${register.platform}, agent ${register.agentVersion}, ${register.containerEngines.join(" and ") || "no engine found"}` : "";
    const total = register?.memoryTotal;
    fill(find(".cpu"), heartbeat && heartbeat.cpuUsage / 100, heartbeat && `${Math.round(heartbeat.cpuUsage)} % of ${register.cpuCount}`);
    fill(find(".memory"), heartbeat && total && 1 - heartbeat.memoryFree / total, heartbeat && `${bytes(heartbeat.memoryFree)} free`);
    fill(find(".disk"), heartbeat?.diskTotal && 1 - heartbeat.diskFree / heartbeat.diskTotal, heartbeat?.diskTotal && `${bytes(heartbeat.diskFree)} free`);
    const running = this.#running.get(id) ?? heartbeat?.containersRunning;
    setText(find(".boxes"), running === undefined ? "" : `${running === 1 ? "1 DevBox runs" : `${running} DevBoxes run`}`);
    setText(find(".trouble"), connected ? trouble(heartbeat) : "Not connected. DevBoxes and terminals on it go on meanwhile.");
  }
}

function sameHeartbeat(worker, before) {
  return JSON.stringify(worker.heartbeat) === JSON.stringify(before?.heartbeat);
}

function trouble(heartbeat) {
  if (!heartbeat?.gatewayStatus || heartbeat.gatewayStatus === "connected") return "";
  const means = {
    "executor-unavailable": "The worker's executor does not answer.",
    "engine-unavailable": "The container engine does not answer.",
    draining: "The worker takes nothing new.",
  };
  return heartbeat.gatewayStatusDetail ?? means[heartbeat.gatewayStatus];
}

function meter(name, label) {
  return h("span", { className: `meter ${name}`, "data-testid": `meter-${name}` },
    h("span", { className: "label" }, label), h("span", { className: "track" }, h("span", { className: "fill" })), h("span", { className: "figure" }));
}

function fill(element, share, figure) {
  const part = Math.min(1, Math.max(0, share || 0));
  element.classList.toggle("high", part > 0.9);
  element.querySelector(".fill").style.width = `${Math.round(part * 100)}%`;
  setText(element.querySelector(".figure"), figure || "–");
}
