// One long command of a form: what it is doing, a button that stops it, and in the same place what went wrong.

import { h, setText, showError } from "./dom.js";

export class Work {
  #connection;
  #fields;
  #stop = null; // AbortController of what is under way
  #bar = h("progress", { "aria-label": "Progress" });
  #step = h("p", { role: "status" });
  #error = h("p", { className: "error", role: "alert", hidden: true });
  #stopButton = h("button", { type: "button", className: "quiet", onclick: () => this.#abort() }, "Stop");
  #progress = h("div", { className: "progress", hidden: true }, this.#bar, h("div", { className: "row" }, this.#step, this.#stopButton));

  /** `name` begins the test ids; `fields` is a fieldset that is disabled meanwhile. */
  constructor(connection, name, fields) {
    this.#connection = connection;
    this.#fields = fields;
    this.#progress.setAttribute("data-testid", `${name}-progress`);
    this.#error.setAttribute("data-testid", `${name}-error`);
    this.#stopButton.setAttribute("data-testid", `${name}-stop`);
    this.element = h("div", { className: "work" }, this.#progress, this.#error);
  }

  get isBusy() {
    return this.#stop !== null;
  }

  /** Show a sentence as if the worker had refused. */
  refuse(message) {
    showError(this.#error, { message });
  }

  /** Run a command; resolves with its answer, or null once what went wrong is shown. */
  async run(worker, type, payload, onProgress = () => {}) {
    if (this.#stop) return null;
    this.#stop = new AbortController();
    this.#fields.disabled = true;
    this.#progress.hidden = false;
    this.#stopButton.disabled = false;
    showError(this.#error, null);
    this.#tell({ message: "Asking the worker" });
    try {
      return await this.#connection.request(worker, type, payload, {
        signal: this.#stop.signal,
        onProgress: (step) => (step.message === undefined ? onProgress(step) : this.#tell(step)),
      });
    } catch (error) {
      showError(this.#error, error.code === "CANCELLED" ? { message: "Stopped." } : error);
      return null;
    } finally {
      this.#stop = null;
      this.#fields.disabled = false;
      this.#progress.hidden = true;
    }
  }

  #abort() {
    this.#stopButton.disabled = true;
    setText(this.#step, "Stopping");
    this.#stop?.abort();
  }

  #tell({ message, fraction }) {
    if (this.#stop?.signal.aborted) return;
    if (typeof fraction === "number") this.#bar.value = fraction;
    else this.#bar.removeAttribute("value");
    setText(this.#step, message);
  }
}

/** A labelled field. */
export function field(label, testid, properties = {}, { tag = "input", hint } = {}) {
  const element = h(tag, { autocomplete: "off", spellcheck: false, "data-testid": testid, ...properties });
  const text = h("span", {}, label);
  return { element, label: h("label", {}, text, element, ...(hint ? [h("span", { className: "hint" }, hint)] : [])) };
}

/** A form whose submission is ours. */
export function form(onSubmit, ...children) {
  return h("form", { noValidate: true, onsubmit: (event) => (event.preventDefault(), onSubmit()) }, ...children);
}
