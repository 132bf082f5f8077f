// The DevBoxes of the chosen worker and what can be done with each.

import { h, keyed, setText, showError } from "./dom.js";
import { duration } from "./format.js";

const STATES = { created: "not started", running: "running", paused: "paused", exited: "stopped", removing: "being removed", dead: "dead" };
const UNREMARKABLE = new Set([undefined, null, 0, 143]); // 143: ended by the signal that Stop sends

export class DevBoxList {
  all = []; // of the chosen worker

  #connection;
  #workers;
  #section = document.getElementById("devboxes-section");
  #list = document.getElementById("devboxes");
  #none = document.getElementById("no-devboxes");
  #error = document.getElementById("devboxes-error");
  #names = new Map(); // id -> name, of every worker seen
  #busy = new Map(); // id -> what is being done
  #errors = new Map(); // id -> refusal
  #denied = new Map(); // id -> what it was last refused to reach
  #asking = new Set(); // ids whose removal waits for a yes
  #shown = null; // worker whose list this is
  #isLoaded = false;

  constructor(connection, workers, { openTerminal, openDisplay, showDetails, onChange }) {
    this.#connection = connection;
    this.#workers = workers;
    this.openTerminal = openTerminal;
    this.openDisplay = openDisplay;
    this.showDetails = showDetails;
    this.onChange = onChange;
  }

  nameOf(id) {
    return this.#names.get(id);
  }

  get isLoaded() {
    return this.#isLoaded;
  }

  /** Show what a DevBox was refused to reach, until it is closed or another comes. */
  note({ devboxId, detail }) {
    this.#denied.set(devboxId, detail);
    this.render();
  }

  /** Ask the chosen worker anew. */
  async refresh() {
    const worker = this.#workers.chosen;
    if (worker?.id !== this.#shown) {
      this.#shown = worker?.id ?? null;
      this.#isLoaded = false;
      this.all = [];
      this.#errors.clear();
      this.render();
    }
    if (!worker?.connected) return this.render();
    try {
      const { devboxes } = await this.#connection.request(worker.id, "DevBox.list", {});
      if (this.#shown !== worker.id) return;
      this.all = devboxes.sort((a, b) => a.name.localeCompare(b.name));
      for (const { id, name } of devboxes) this.#names.set(id, name);
      this.#isLoaded = true;
      this.#workers.counted(worker.id, devboxes.filter(({ state }) => state === "running").length);
      showError(this.#error, null);
    } catch (error) {
      if (this.#shown === worker.id && error.code !== "UNAVAILABLE") showError(this.#error, error);
      else if (worker.connected && this.#connection.status === "open") showError(this.#error, error);
    }
    this.render();
  }

  render() {
    const worker = this.#workers.chosen;
    this.#section.hidden = !worker;
    document.getElementById("new-devbox").disabled = !worker?.connected;
    this.#none.hidden = !this.#isLoaded || this.all.length > 0;
    this.#section.classList.toggle("stale", !worker?.connected);
    keyed(this.#list, this.all, ({ id }) => id, (box) => this.#create(box), (row, box) => this.#fill(row, box));
    this.onChange();
  }

  #create({ id, name }) {
    const current = () => this.all.find((box) => box.id === id);
    const button = (label, testid, act) => h("button", { "data-testid": testid, "aria-label": `${label} ${name}`, onclick: act }, label);
    return h("article", { className: "devbox", "data-testid": "devbox", "data-devbox": id, "data-name": name },
      h("header", {}, h("i", { className: "dot" }), h("strong"), h("span", { className: "state", "data-testid": "devbox-state" })),
      h("p", { className: "meta" }),
      h("div", { className: "actions" },
        button("Terminal", "open-terminal", () => this.openTerminal(current())),
        button("Display", "open-display", () => this.openDisplay(current())),
        button("Details", "details", () => this.showDetails(current())),
        button("Start", "start", () => this.#do(id, "DevBox.start", {}, "Starting")),
        button("Stop", "stop", () => this.#do(id, "DevBox.stop", {}, "Stopping")),
        button("Remove", "remove", () => this.#ask(id))),
      h("div", { className: "asking", hidden: true },
        h("span", {}, "Its files go too."),
        button("Remove", "remove-yes", () => this.#do(id, "DevBox.remove", { force: true }, "Removing")),
        h("button", { className: "quiet", "data-testid": "remove-no", onclick: () => this.#ask(id) }, "Keep")),
      h("div", { className: "denied", role: "status", "data-testid": "devbox-denied", hidden: true },
        h("span"),
        h("button", { className: "quiet", "aria-label": `Close the note about ${name}`, onclick: () => { this.#denied.delete(id); this.render(); } }, "Close")),
      h("p", { className: "error", role: "alert", "data-testid": "devbox-error", hidden: true }));
  }

  #fill(row, box) {
    const doing = this.#busy.get(box.id);
    const isRunning = box.state === "running";
    row.dataset.state = doing ? "busy" : box.state;
    const find = (selector) => row.querySelector(selector);
    setText(find("strong"), box.name);
    const code = box.state === "exited" && !UNREMARKABLE.has(box.exitCode) ? ` (exit code ${box.exitCode})` : "";
    setText(find(".state"), doing ?? (STATES[box.state] ?? box.state) + code);
    setText(find(".meta"), `${box.profile} · ${box.image}`);
    row.title = `Created ${duration(Date.now() - Date.parse(box.createdAt))} ago with ${box.engine}`;
    if (box.missingLimits?.length) row.title += `. This engine does not hold these limits: ${box.missingLimits.join(", ")}`;
    find(".meta").classList.toggle("warn", Boolean(box.missingLimits?.length));
    const isAway = !this.#workers.chosen?.connected;
    const asks = this.#asking.has(box.id) && !doing;
    find(".actions").hidden = asks;
    find(".asking").hidden = !asks;
    for (const element of row.querySelectorAll("button")) element.disabled = Boolean(doing) || isAway;
    find("[data-testid=open-terminal]").hidden = !isRunning;
    find("[data-testid=open-display]").hidden = !isRunning || !box.display;
    find("[data-testid=stop]").hidden = !isRunning;
    find("[data-testid=start]").hidden = isRunning;
    const denied = this.#denied.get(box.id);
    find(".denied").hidden = !denied;
    setText(find(".denied span"), denied ?? "");
    showError(find(".error"), this.#errors.get(box.id));
  }

  #ask(id) {
    if (!this.#asking.delete(id)) this.#asking.add(id);
    this.render();
    const label = this.#asking.has(id) ? "remove-no" : "remove";
    this.#list.querySelector(`[data-devbox="${CSS.escape(id)}"] [data-testid=${label}]`)?.focus();
  }

  async #do(id, type, options, doing) {
    this.#busy.set(id, `${doing}…`);
    this.#errors.delete(id);
    this.#asking.delete(id);
    this.render();
    try {
      await this.#connection.request(this.#shown, type, { devboxId: id, ...options });
    } catch (error) {
      this.#errors.set(id, error);
    }
    this.#busy.delete(id);
    await this.refresh();
  }
}
