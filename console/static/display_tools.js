// The bar over a display: how the desktop and the window fit together, the clipboard, full screen.

import { h } from "./dom.js";

const SAVED = "clustercode.display.size";
const SIZES = {
  fit: "Desktop follows the window",
  scale: "Picture fits the window",
  actual: "Actual size",
};
const MAX_CLIPBOARD = 200_000; // characters; the server takes 256 KiB

export class DisplayTools {
  #session;
  #screen;
  #size;
  #clipboard;
  #text;
  #buttons;

  constructor(session, screen) {
    this.#session = session;
    this.#screen = screen;
    const saved = localStorage.getItem(SAVED);
    this.#size = h("select", { "data-testid": "display-size", "aria-label": "Size of the desktop", onchange: () => this.#resize() },
      ...Object.entries(SIZES).map(([value, text]) => h("option", { value, selected: value === (saved in SIZES ? saved : "fit") }, text)));
    this.#text = h("textarea", {
      "data-testid": "display-clipboard-text", "aria-label": "The desktop's clipboard", rows: 4, maxLength: MAX_CLIPBOARD, spellcheck: false,
      placeholder: "What is copied on the desktop appears here. What you type or paste here can be pasted there.",
      oninput: () => this.#session.rfb?.clipboardPasteFrom(this.#text.value),
    });
    this.#clipboard = h("div", { className: "clipboard", hidden: true, "data-testid": "display-clipboard" }, this.#text);
    const clip = h("button", { className: "quiet", "data-testid": "display-clipboard-open", "aria-expanded": "false", onclick: () => {
      this.#clipboard.hidden = !this.#clipboard.hidden;
      clip.setAttribute("aria-expanded", String(!this.#clipboard.hidden));
      if (this.#clipboard.hidden) this.#session.focus();
      else this.#text.focus();
    } }, "Clipboard");
    const full = h("button", { className: "quiet", "data-testid": "display-full", onclick: () => this.#fullScreen() }, "Full screen");
    this.#buttons = [this.#size, clip, full];
    this.element = h("div", { className: "tools", role: "toolbar", "aria-label": "Display" }, ...this.#buttons, this.#clipboard);
    this.#screen.addEventListener("focusin", this.#offer);
    this.disconnected();
  }

  /** Set a new noVNC up as the person wants it. */
  connected() {
    for (const button of this.#buttons) button.disabled = false;
    this.#resize();
  }

  disconnected() {
    for (const button of this.#buttons) button.disabled = true;
  }

  /** Take what was copied on the desktop. */
  received(text) {
    this.#text.value = text.slice(0, MAX_CLIPBOARD);
    // The browser may forbid it, as when another window has the focus; the text is in the field then.
    if (this.#screen.contains(document.activeElement)) navigator.clipboard?.writeText(text).catch(() => {});
  }

  /** Give the person's own clipboard to the desktop when they turn to it, where the browser allowed that before. */
  #offer = async () => {
    try {
      const { state } = await navigator.permissions.query({ name: "clipboard-read" });
      if (state !== "granted") return;
      const text = (await navigator.clipboard.readText()).slice(0, MAX_CLIPBOARD);
      if (!text || text === this.#text.value) return;
      this.#text.value = text;
      this.#session.rfb?.clipboardPasteFrom(text);
    } catch {
      // no such permission in this browser, or nothing that is text
    }
  };

  #resize() {
    const size = this.#size.value;
    localStorage.setItem(SAVED, size);
    const { rfb } = this.#session;
    if (!rfb) return;
    rfb.scaleViewport = size !== "actual"; // also where another viewer gave the desktop its size
    rfb.resizeSession = size === "fit";
  }

  #fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.element.parentElement.requestFullscreen().catch(() => {});
    this.#session.focus();
  }

  dispose() {
    if (document.fullscreenElement === this.element.parentElement) document.exitFullscreen();
  }
}
