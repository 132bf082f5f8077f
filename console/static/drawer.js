// The panel at the right: shows one thing at a time, and nothing in it ends when it is closed.

import { h, icon, setText } from "./dom.js";

const CROSS = "M4 4l8 8M12 4l-8 8";

export class Drawer {
  key = null; // what is shown

  #element = document.getElementById("drawer");
  #title = h("h2", { id: "drawer-title" });
  #lead = h("p", { className: "lead" });
  #body = h("div", { className: "body" });
  #opener = null;

  constructor() {
    const close = h("button", { className: "quiet icon", "aria-label": "Close", title: "Close", "data-testid": "drawer-close", onclick: () => this.close() }, icon(CROSS));
    this.#element.append(h("header", {}, h("div", {}, this.#title, this.#lead), close), this.#body);
    this.#element.addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && this.close());
  }

  show(key, { title, lead }, body) {
    if (this.key === null) this.#opener = document.activeElement;
    const isNew = key !== this.key;
    this.key = key;
    setText(this.#title, title);
    setText(this.#lead, lead);
    this.#element.hidden = false;
    if (!isNew) return;
    this.#body.replaceChildren(body);
    body.querySelector("[role=tab][aria-selected=true], input, button")?.focus();
  }

  close() {
    if (this.key === null) return;
    this.key = null;
    this.#element.hidden = true;
    this.#body.replaceChildren();
    if (this.#opener?.isConnected) this.#opener.focus();
  }
}
