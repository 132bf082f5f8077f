// Background commands of a DevBox: started, watched, killed. They go on when the page is closed.

import { h, keyed, setText, showError } from "./dom.js";
import { bytes, duration } from "./format.js";
import { Output } from "./output.js";
import { Work, field, form } from "./work.js";

const WAIT_MS = 10_000;
const PIECE_BYTES = 64 * 1024;
const HISTORY_BYTES = 128 * 1024;
const RETRY_MS = 2000;

export class BackgroundPanel {
  #connection;
  #worker;
  #box;
  #onChange;
  #command = field("Command", "background-command", { placeholder: "npm run dev", className: "code", maxLength: 65536 }, { hint: "Goes on by itself until it ends, whoever is connected." });
  #workdir = field("Folder", "background-workdir", { placeholder: "the image's" });
  #user = field("User", "background-user", { placeholder: "the image's" });
  #fields = h("fieldset", {},
    this.#command.label,
    h("details", {}, h("summary", {}, "More"), h("div", { className: "more pair" }, this.#workdir.label, this.#user.label)),
    h("div", { className: "row end" }, h("button", { className: "primary", "data-testid": "background-submit" }, "Start")));
  #list = h("div", { className: "cards", "data-testid": "backgrounds" });
  #none = h("p", { className: "hint" }, "None has been started here yet.");
  #watches = new Map(); // background id -> Watch
  #errors = new Map();
  #killing = new Set();

  /** `onChange` asks for the DevBoxes anew. */
  constructor(connection, worker, onChange) {
    this.#connection = connection;
    this.#worker = worker;
    this.#onChange = onChange;
    this.work = new Work(connection, "background", this.#fields);
    this.element = h("div", {}, form(() => this.#start(), this.#fields, this.work.element), this.#list, this.#none);
  }

  get running() {
    return (this.#box?.background ?? []).filter(({ running }) => running).length;
  }

  update(box) {
    this.#box = box;
    if (!this.work.isBusy) this.#fields.disabled = box.state !== "running";
    this.#render();
  }

  /** Stop watching: the panel is gone. */
  dispose() {
    for (const watch of this.#watches.values()) watch.stop();
    this.#watches.clear();
  }

  #render() {
    const commands = [...(this.#box.background ?? [])].sort((a, b) => b.startedAt.localeCompare(a.startedAt));
    this.#none.hidden = commands.length > 0;
    keyed(this.#list, commands, ({ backgroundId }) => backgroundId, (item) => this.#create(item), (card, item) => this.#fill(card, item));
    const known = new Set(commands.map(({ backgroundId }) => backgroundId));
    for (const [id, watch] of this.#watches) {
      if (known.has(id)) continue;
      watch.stop();
      this.#watches.delete(id);
    }
  }

  #create({ backgroundId: id, command }) {
    return h("article", { className: "card", "data-testid": "background", "data-background": id },
      h("header", {}, h("i", { className: "dot" }), h("code"), h("span", { className: "state", "data-testid": "background-state" })),
      h("div", { className: "actions" },
        h("button", { "data-testid": "background-watch", "aria-label": `Output of ${command}`, onclick: () => this.#toggle(id) }, "Output"),
        h("button", { "data-testid": "background-kill", "aria-label": `Kill ${command}`, onclick: () => this.#kill(id) }, "Kill")),
      h("p", { className: "error", role: "alert", "data-testid": "background-card-error", hidden: true }),
      h("div", { className: "watch" }));
  }

  #fill(card, item) {
    const find = (selector) => card.querySelector(selector);
    const killing = this.#killing.has(item.backgroundId);
    card.dataset.state = killing ? "busy" : item.running ? "running" : "ended";
    setText(find("code"), item.command);
    find("code").title = item.command;
    const since = duration(Date.now() - Date.parse(item.startedAt));
    const ended = item.exitCode === undefined ? "ended" : `ended with ${item.exitCode}`;
    setText(find(".state"), `${killing ? "killing" : item.running ? `running, ${since}` : ended} · ${bytes(item.outputBytes)}`);
    find("[data-testid=background-kill]").hidden = !item.running;
    find("[data-testid=background-kill]").disabled = killing;
    const watch = this.#watches.get(item.backgroundId);
    find("[data-testid=background-watch]").setAttribute("aria-expanded", Boolean(watch));
    const place = find(".watch");
    if (watch && place.firstElementChild !== watch.element) place.replaceChildren(watch.element);
    if (!watch && place.firstElementChild) place.replaceChildren();
    showError(find(".error"), this.#errors.get(item.backgroundId));
  }

  async #start() {
    const value = ({ element }) => element.value.trim() || undefined;
    if (!value(this.#command)) return this.#command.element.focus();
    const payload = { devboxId: this.#box.id, command: value(this.#command), workdir: value(this.#workdir), user: value(this.#user) };
    const answer = await this.work.run(this.#worker, "DevBox.exec.background", payload);
    this.#fields.disabled = this.#box.state !== "running";
    if (!answer) return;
    this.#command.element.value = "";
    await this.#onChange();
    if (!this.#watches.has(answer.backgroundId)) this.#toggle(answer.backgroundId);
  }

  #toggle(id) {
    const watch = this.#watches.get(id);
    if (watch) {
      watch.stop();
      this.#watches.delete(id);
    } else {
      const item = this.#box.background?.find(({ backgroundId }) => backgroundId === id);
      const from = Math.max(0, (item?.outputBytes ?? 0) - HISTORY_BYTES);
      this.#watches.set(id, new Watch(this.#connection, this.#worker, this.#box.id, id, from, this.#onChange));
    }
    this.#render();
  }

  async #kill(id) {
    this.#killing.add(id);
    this.#errors.delete(id);
    this.#render();
    try {
      await this.#connection.request(this.#worker, "DevBox.exec.background.kill", { devboxId: this.#box.id, backgroundId: id });
    } catch (error) {
      this.#errors.set(id, error);
    }
    this.#killing.delete(id);
    await this.#onChange();
    this.#render();
  }
}

/** The output of one command, followed by asking for what comes next and waiting for it. */
class Watch {
  #output = new Output("background-output");
  #says = h("p", { className: "hint", role: "status", "data-testid": "background-says" });
  #stop = new AbortController();

  constructor(connection, worker, devboxId, backgroundId, offset, onEnd) {
    this.element = h("div", {}, this.#output.element, this.#says);
    this.#follow(connection, worker, { devboxId, backgroundId }, offset, onEnd);
  }

  stop() {
    this.#stop.abort();
  }

  async #follow(connection, worker, command, offset, onEnd) {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const payload = { ...command, offset, maxBytes: PIECE_BYTES, waitMs: WAIT_MS };
        const answer = await connection.request(worker, "DevBox.exec.background.capture", payload, { signal });
        if (signal.aborted) return;
        if (answer.offset > offset) this.#output.add(`[${bytes(answer.offset - offset)} of older output are gone]\n`, "note");
        this.#output.addBase64(answer.data);
        const isWhole = answer.nextOffset === offset || answer.data === "";
        offset = answer.nextOffset;
        setText(this.#says, answer.running ? (offset ? "" : "No output yet.") : isWhole ? ended(answer.exitCode, offset) : "");
        if (!answer.running && isWhole) return onEnd();
      } catch (error) {
        if (signal.aborted) return;
        setText(this.#says, error.message);
        if (error.code !== "UNAVAILABLE") return;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS)); // the worker or the page's way to it is away
      }
    }
  }
}

function ended(exitCode, size) {
  const how = exitCode === undefined ? "It ended; how is not known." : `It ended with exit code ${exitCode}.`;
  return size ? how : `${how} It wrote nothing.`;
}
