// Output of commands as text: bounded, following its end while its end is in view.

import { h } from "./dom.js";

const MAX_CHARACTERS = 400_000;
// Colours and the like; a terminal is where these mean something.
const ESCAPES = /\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])/g;

export class Output {
  #size = 0;
  #decoders = new Map();

  constructor(testid) {
    this.element = h("pre", { className: "output", tabIndex: 0, "data-testid": testid, hidden: true });
  }

  clear() {
    this.#size = 0;
    this.#decoders.clear();
    this.element.replaceChildren();
    this.element.hidden = true;
  }

  /** Add bytes in base64 of one of several streams; a character cut in two is put together. */
  addBase64(data, kind = "stdout") {
    let decoder = this.#decoders.get(kind);
    if (!decoder) this.#decoders.set(kind, (decoder = new TextDecoder()));
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    this.add(decoder.decode(bytes, { stream: true }), kind);
  }

  add(text, kind = "stdout") {
    const shown = text.replace(ESCAPES, "").replace(/\r\n?/g, "\n");
    if (!shown) return;
    const { element } = this;
    const follows = element.hidden || element.scrollHeight - element.scrollTop - element.clientHeight < 30;
    element.hidden = false;
    element.append(h("span", { className: kind }, shown));
    this.#size += shown.length;
    while (this.#size > MAX_CHARACTERS && element.childElementCount > 1) {
      this.#size -= element.firstElementChild.textContent.length;
      element.firstElementChild.remove();
    }
    if (follows) element.scrollTop = element.scrollHeight;
  }
}
