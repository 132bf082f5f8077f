// Terminals and displays as tabs: which are open, in which order, which one is shown; found again after a reload.

import { DisplaySession } from "./display.js";
import { h, icon, setText } from "./dom.js";
import { TerminalSession } from "./terminal.js";
import { onThemeChange } from "./theme.js";

const SAVED = "clustercode.tabs";
const CLOSING = "clustercode.closing";
const DISPLAYS = "clustercode.displays"; // of this window: each window has viewers of its own
const CROSS = "M4 4l8 8M12 4l-8 8";

export class Tabs {
  open = []; // of {terminal, tab, panel, overlay}; the terminal may be a display
  chosen = null;
  /** Session id -> xterm Terminal, for tests. */
  terminals = new Map();
  /** Viewers of displays, for tests. */
  displays = [];
  /** Called when a terminal was refused. */
  onFailed = null;

  #connection;
  #workers;
  #strip = document.getElementById("tabs");
  #area = document.getElementById("terminals");
  #restored = new Map(); // worker -> the connection of it whose sessions were taken over
  #closing = new Map(Object.entries(JSON.parse(localStorage.getItem(CLOSING) ?? "{}"))); // session -> worker

  /** `workers` is the map of workers by id; `onChange` is called when tabs were opened or closed. */
  constructor(connection, workers, onChange) {
    this.#connection = connection;
    this.#workers = workers;
    this.onChange = onChange;
    this.#strip.addEventListener("keydown", (event) => this.#stripKey(event));
    onThemeChange(() => this.open.forEach(({ terminal }) => terminal.recolour?.()));
    connection.addEventListener("status", () => this.syncAll());
  }

  // --- What happens to workers ------------------------------------------------------------------------------------

  /** Open tabs for sessions that were there before this page, once for each connection of a worker. */
  restore(worker, pageId) {
    const isNew = this.#restored.get(worker.id) !== worker.connection;
    if (!this.#restored.has(worker.id)) {
      const ours = JSON.parse(sessionStorage.getItem(DISPLAYS) ?? "[]").filter((tab) => tab.worker === worker.id);
      for (const tab of ours) this.add({ ...tab, isDisplay: true }, { choose: tab.chosen, save: false });
    }
    if (isNew) {
      this.#restored.set(worker.id, worker.connection);
      const saved = JSON.parse(localStorage.getItem(SAVED) ?? "[]");
      const rank = ({ sessionId }) => (saved.findIndex((tab) => tab.sessionId === sessionId) + 1 || saved.length + 1);
      const mine = new Set(this.open.map(({ terminal }) => terminal.sessionId));
      const found = worker.sessions.filter(({ sessionId }) => !mine.has(sessionId) && !this.#closing.has(sessionId));
      for (const session of found.sort((a, b) => rank(a) - rank(b))) {
        const { title, chosen } = saved.find((tab) => tab.sessionId === session.sessionId) ?? {};
        const isElsewhere = session.viewer !== null && session.viewer !== pageId;
        this.add({ ...session, worker: worker.id, title, isElsewhere }, { choose: Boolean(chosen), save: false });
      }
      if (found.length > 0 && !this.chosen) this.choose(this.open[0]);
    }
    if (isNew && worker.connected) this.#closeLeftOvers(worker);
    const listed = new Set(worker.sessions.map(({ sessionId }) => sessionId));
    for (const { terminal } of this.open.filter(({ terminal }) => terminal.worker === worker.id)) {
      if (worker.connected && terminal.state === "elsewhere" && !listed.has(terminal.sessionId)) terminal.gone();
      terminal.sync(worker);
    }
  }

  syncAll() {
    for (const entry of this.open) {
      entry.terminal.sync(this.#workers.get(entry.terminal.worker));
      this.#show(entry);
    }
  }

  /** Pass a push on to the terminal it is about. */
  receive(message) {
    const found = this.open.find(({ terminal: t }) => t.worker === message.worker && t.sessionId === message.sessionId);
    found?.terminal.receive(message);
  }

  // --- Tabs -----------------------------------------------------------------------------------------------------------

  /** Open a tab; without a session id, on a new shell. */
  add({ worker, devboxId, sessionId, title, isElsewhere, isDisplay }, { choose = true, save = true } = {}) {
    const terminal = isDisplay
      ? new DisplaySession(this.#connection, { worker, devboxId })
      : new TerminalSession(this.#connection, { worker, devboxId, sessionId, isElsewhere });
    terminal.title = title ?? this.#freeTitle(devboxId, isDisplay ? " display" : "");
    const closes = isDisplay ? "Close; the desktop goes on" : "Close and end the shell";
    const name = h("span", { className: "name" });
    const close = h("button", {
      className: "quiet icon", tabIndex: -1, "aria-label": closes, title: closes,
      "data-testid": "tab-close", onclick: (event) => (event.stopPropagation(), this.close(entry)),
    }, icon(CROSS));
    const tab = h("div", { className: "tab", role: "tab", "data-testid": "tab" }, h("i", { className: "dot" }), name, close);
    const overlay = h("div", { className: "overlay", "data-testid": "overlay", role: "status" });
    const panel = h("div", { className: "panel", role: "tabpanel", "data-testid": isDisplay ? "display-panel" : "terminal" }, overlay);
    panel.id = `panel-${crypto.randomUUID()}`;
    tab.setAttribute("aria-controls", panel.id);
    const entry = { terminal, tab, panel, overlay, name };
    tab.addEventListener("click", () => this.choose(entry, { focus: true }));
    tab.addEventListener("auxclick", (event) => event.button === 1 && this.close(entry));
    tab.addEventListener("dblclick", () => this.#rename(entry));
    terminal.addEventListener("state", () => {
      this.#show(entry);
      if (terminal.state === "failed") this.onFailed?.();
    });
    terminal.addEventListener("retry", () => terminal.sync(this.#workers.get(terminal.worker)));
    terminal.addEventListener("leave", () => tab.focus());
    terminal.addEventListener("session", () => {
      this.#index();
      this.#save();
      this.syncAll();
    });
    terminal.term?.onTitleChange((text) => (tab.title = text));
    this.open.push(entry);
    this.#strip.append(tab);
    this.#area.append(panel);
    this.#index();
    panel.hidden = true;
    this.#show(entry);
    if (choose || !this.chosen) this.choose(entry, { focus: choose });
    terminal.sync(this.#workers.get(worker));
    if (save) this.#save();
    this.onChange();
    return terminal;
  }

  choose(entry, { focus = false } = {}) {
    this.chosen = entry;
    for (const other of this.open) {
      const isChosen = other === entry;
      other.panel.hidden = !isChosen;
      other.tab.setAttribute("aria-selected", isChosen);
      other.tab.tabIndex = isChosen ? 0 : -1;
    }
    if (!entry) return;
    entry.terminal.mount(entry.panel);
    entry.tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focus) entry.terminal.focus();
    this.#save();
  }

  /** Close a tab and end its shell, now or, if the worker is away, as soon as it is back. */
  close(entry) {
    const { terminal } = entry;
    const at = this.open.indexOf(entry);
    this.open.splice(at, 1);
    entry.tab.remove();
    entry.panel.remove();
    terminal.dispose();
    if (!terminal.isDisplay && terminal.state !== "ended" && terminal.state !== "failed") this.#end(terminal.worker, terminal.sessionId);
    this.#index();
    this.#save();
    if (this.chosen === entry) this.choose(this.open[Math.min(at, this.open.length - 1)] ?? null, { focus: true });
    this.onChange();
  }

  #end(worker, sessionId) {
    this.#closing.set(sessionId, worker);
    this.#saveClosing();
    this.#connection.request(worker, "terminal.close", { sessionId }).then(
      () => this.#closed(sessionId),
      (error) => error.code !== "UNAVAILABLE" && this.#closed(sessionId),
    );
  }

  #closed(sessionId) {
    this.#closing.delete(sessionId);
    this.#saveClosing();
  }

  #closeLeftOvers(worker) {
    for (const [sessionId, owner] of this.#closing) if (owner === worker.id) this.#end(owner, sessionId);
  }

  // --- How it looks ---------------------------------------------------------------------------------------------------

  #show({ terminal, tab, overlay, name }) {
    setText(name, terminal.title);
    tab.dataset.state = terminal.state;
    tab.dataset.session = terminal.sessionId;
    overlay.dataset.state = terminal.state;
    const take = (label, id) =>
      h("button", {
        "data-testid": id, onclick: () => {
          terminal.take(this.#workers.get(terminal.worker));
          terminal.focus();
        },
      }, label);
    const it = terminal.isDisplay ? "This display" : "This terminal";
    const says = (text, { message, code }) => h("span", { title: message }, text, " ", h("small", {}, code));
    const content = {
      away: () => [h("span", { className: "spinner" }), this.#connection.status === "open"
        ? (terminal.error ? says(`${it} is out of reach just now and comes back by itself.`, terminal.error) : `The worker is away. ${it} comes back by itself when it returns.`)
        : this.#connection.status === "refused"
          ? `The console was started anew. Open the address that it printed. ${it} comes back then.`
          : `Not connected to the console. ${it} comes back by itself.`],
      elsewhere: () => ["This terminal is shown in another window.", take("Take it back", "take-back")],
      failed: () => [says(terminal.error.message, terminal.error), take("Try again", "try-again")],
    }[terminal.state];
    overlay.hidden = !content;
    overlay.replaceChildren(...(content?.() ?? []));
  }

  #rename(entry) {
    const { terminal, name, tab } = entry;
    const field = h("input", { className: "rename", value: terminal.title, maxLength: 40, "aria-label": "Name of this tab" });
    const done = (title) => {
      if (title) terminal.title = title;
      field.onblur = null;
      field.replaceWith(name);
      this.#show(entry);
      this.#save();
      terminal.focus();
    };
    field.onblur = () => done(field.value.trim());
    field.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter") done(field.value.trim());
      if (event.key === "Escape") done("");
    };
    name.replaceWith(field);
    field.select();
    tab.title = "";
  }

  #stripKey(event) {
    const at = this.open.indexOf(this.chosen);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.open.length - 1 }[event.key];
    if (event.key === "Delete" && this.chosen) this.close(this.chosen);
    else if (event.key === "F2" && this.chosen) this.#rename(this.chosen);
    else if (event.key === "Enter" || event.key === " ") this.chosen?.terminal.focus();
    else if (to === undefined || !this.open[to]) return;
    else {
      this.choose(this.open[to]);
      this.open[to].tab.focus();
    }
    event.preventDefault();
  }

  #freeTitle(devboxId, suffix) {
    const name = (this.nameOf?.(devboxId) ?? devboxId) + suffix;
    const taken = new Set(this.open.map(({ terminal }) => terminal.title));
    for (let number = 1; ; number++) {
      const title = number === 1 ? name : `${name} ${number}`;
      if (!taken.has(title)) return title;
    }
  }

  #index() {
    this.terminals.clear();
    for (const { terminal, tab } of this.open) {
      if (!terminal.isDisplay) this.terminals.set(terminal.sessionId, terminal.term);
      tab.dataset.session = terminal.sessionId;
    }
    this.displays = this.open.map(({ terminal }) => terminal).filter(({ isDisplay }) => isDisplay);
    this.#strip.hidden = this.open.length === 0;
  }

  #save() {
    const saved = (entry) => ({ title: entry.terminal.title, chosen: entry === this.chosen });
    const terminals = this.open.filter(({ terminal }) => !terminal.isDisplay);
    localStorage.setItem(SAVED, JSON.stringify(terminals.map((entry) => ({ ...saved(entry), sessionId: entry.terminal.sessionId }))));
    const displays = this.open.filter(({ terminal }) => terminal.isDisplay);
    sessionStorage.setItem(DISPLAYS, JSON.stringify(displays.map((entry) => {
      const { worker, devboxId } = entry.terminal;
      return { ...saved(entry), worker, devboxId };
    })));
  }

  #saveClosing() {
    localStorage.setItem(CLOSING, JSON.stringify(Object.fromEntries([...this.#closing].slice(-50))));
  }
}
