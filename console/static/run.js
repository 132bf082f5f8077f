// Running a command in a DevBox and waiting for its end.

import { h, setText } from "./dom.js";
import { Output } from "./output.js";
import { Work, field, form } from "./work.js";

export class RunForm {
  #worker;
  #box;
  #command = field("Command", "run-command", { placeholder: "ls -la", className: "code", maxLength: 65536 }, { hint: "Run by the DevBox's shell." });
  #workdir = field("Folder", "run-workdir", { placeholder: "the image's" });
  #user = field("User", "run-user", { placeholder: "the image's" });
  #seconds = field("Stop after seconds", "run-seconds", { type: "number", min: 1, max: 86400, placeholder: "3600" });
  #stdin = field("Standard input", "run-stdin", { rows: 2, className: "code" }, { tag: "textarea" });
  #output = new Output("run-output");
  #ended = h("p", { className: "done", role: "status", "data-testid": "run-ended", hidden: true });
  #fields = h("fieldset", {},
    this.#command.label,
    h("details", {}, h("summary", {}, "More"), h("div", { className: "more" },
      h("div", { className: "pair" }, this.#workdir.label, this.#user.label), this.#seconds.label, this.#stdin.label)),
    h("div", { className: "row end" }, h("button", { className: "primary", "data-testid": "run-submit" }, "Run")));

  constructor(connection, worker) {
    this.#worker = worker;
    this.work = new Work(connection, "run", this.#fields);
    this.element = form(() => this.#submit(), this.#fields, this.work.element, this.#output.element, this.#ended);
  }

  update(box) {
    this.#box = box;
    if (!this.work.isBusy) this.#fields.disabled = box.state !== "running";
  }

  async #submit() {
    const value = ({ element }) => element.value.trim() || undefined;
    if (!value(this.#command)) return this.#command.element.focus();
    this.#output.clear();
    this.#ended.hidden = true;
    const seconds = value(this.#seconds);
    const payload = {
      devboxId: this.#box.id, command: value(this.#command), stream: true,
      workdir: value(this.#workdir), user: value(this.#user), timeoutMs: seconds && Math.round(Number(seconds) * 1000),
      stdin: this.#stdin.element.value ? base64(this.#stdin.element.value) : undefined,
    };
    const answer = await this.work.run(this.#worker, "DevBox.exec", payload, ({ stream, data }) => this.#output.addBase64(data, stream));
    this.#fields.disabled = this.#box.state !== "running";
    if (!answer) return;
    setText(this.#ended, `Ended with exit code ${answer.exitCode} after ${(answer.durationMs / 1000).toFixed(1)} s.`);
    this.#ended.classList.toggle("warn", answer.exitCode !== 0);
    this.#ended.hidden = false;
    this.#command.element.focus();
  }
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
