// What can be done inside a DevBox, one panel for each: set it up, run a command, background commands.

import { BackgroundPanel } from "./background.js";
import { h, setText } from "./dom.js";
import { RunForm } from "./run.js";
import { SetupForm } from "./setup.js";

export class DevBoxDetails {
  #connection;
  #drawer;
  #refresh;
  #panels = new Map(); // worker and DevBox -> Panel; kept while the DevBox is there, for what is under way in it

  constructor(connection, drawer, refresh) {
    this.#connection = connection;
    this.#drawer = drawer;
    this.#refresh = refresh;
  }

  show(worker, box) {
    const key = `${worker}/${box.id}`;
    if (!this.#panels.has(key)) this.#panels.set(key, new Panel(this.#connection, worker, this.#refresh));
    const panel = this.#panels.get(key);
    panel.update(box);
    this.#drawer.show(key, heading(box), panel.element);
  }

  /** Take the DevBoxes of a worker as they are now. */
  update(worker, boxes) {
    const found = new Map(boxes.map((box) => [`${worker}/${box.id}`, box]));
    for (const [key, panel] of this.#panels) {
      const box = found.get(key);
      if (box) {
        panel.update(box);
        if (this.#drawer.key === key) this.#drawer.show(key, heading(box), panel.element);
      } else if (key.startsWith(`${worker}/`)) {
        if (this.#drawer.key === key) this.#drawer.close();
        panel.dispose();
        this.#panels.delete(key);
      }
    }
  }
}

function heading(box) {
  return { title: box.name, lead: `${box.profile} · ${box.image}` };
}

class Panel {
  #stopped = h("p", { className: "hint", "data-testid": "details-stopped" }, "This DevBox does not run. Start it on the left.");
  #tabs = h("div", { className: "strip", role: "tablist", "aria-label": "What to do" });
  #chosen = "setup";

  constructor(connection, worker, refresh) {
    this.background = new BackgroundPanel(connection, worker, refresh);
    this.parts = { setup: new SetupForm(connection, worker), run: new RunForm(connection, worker), background: this.background };
    this.#tabs.append(...Object.entries({ setup: "Set up", run: "Run", background: "Background" }).map(([name, label]) => {
      this.parts[name].element.id = `part-${crypto.randomUUID()}`;
      this.parts[name].element.setAttribute("role", "tabpanel");
      return h("button", { role: "tab", "data-testid": `tab-${name}`, "data-part": name, "aria-controls": this.parts[name].element.id, onclick: () => this.#choose(name) }, label);
    }));
    this.#tabs.addEventListener("keydown", (event) => this.#key(event));
    this.element = h("div", { className: "details", "data-testid": "details" }, this.#tabs, this.#stopped, ...Object.values(this.parts).map(({ element }) => element));
    this.#choose("setup");
  }

  update(box) {
    this.#stopped.hidden = box.state === "running";
    for (const part of Object.values(this.parts)) part.update(box);
    const { running } = this.background;
    setText(this.#tabs.lastElementChild, running ? `Background (${running})` : "Background");
  }

  dispose() {
    this.background.dispose();
  }

  #choose(name) {
    this.#chosen = name;
    for (const tab of this.#tabs.children) {
      const isChosen = tab.dataset.part === name;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
      this.parts[tab.dataset.part].element.hidden = !isChosen;
    }
  }

  #key(event) {
    const names = Object.keys(this.parts);
    const at = names.indexOf(this.#chosen);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: names.length - 1 }[event.key];
    if (names[to] === undefined) return;
    this.#choose(names[to]);
    this.#tabs.children[to].focus();
    event.preventDefault();
  }
}
