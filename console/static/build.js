// Building an image from the text of a Containerfile, with its log as it happens.

import { h } from "./dom.js";
import { Output } from "./output.js";
import { Work, field, form } from "./work.js";

const EXAMPLE = "FROM localhost/devbox:latest\nRUN mkdir -p ~/bin\n";

export class BuildForm {
  #worker;
  #onBuilt;
  #name = field("Name", "build-name", { placeholder: "localhost/mine", maxLength: 512 });
  #tag = field("Tag", "build-tag", { placeholder: "latest", maxLength: 128 });
  #file = field("Containerfile", "build-file", { rows: 7, className: "code", value: EXAMPLE, maxLength: 65536 }, { tag: "textarea" });
  #args = field("Build arguments", "build-args", { rows: 2, className: "code", placeholder: "NAME=value, one on each line" }, { tag: "textarea" });
  #noCache = h("input", { type: "checkbox", "data-testid": "build-no-cache" });
  #output = new Output("build-log");
  #done = h("p", { className: "done", role: "status", "data-testid": "build-done", hidden: true });
  #fields = h("fieldset", {},
    h("div", { className: "pair narrow-last" }, this.#name.label, this.#tag.label), this.#file.label,
    h("details", {}, h("summary", {}, "More"), h("div", { className: "more" },
      this.#args.label, h("label", { className: "check" }, this.#noCache, " Build every step anew"))),
    h("div", { className: "row end" }, h("button", { className: "primary", "data-testid": "build-submit" }, "Build")));

  constructor(connection, worker, onBuilt) {
    this.#worker = worker;
    this.#onBuilt = onBuilt;
    this.work = new Work(connection, "build", this.#fields);
    this.element = form(() => this.#submit(), this.#fields, this.work.element, this.#output.element, this.#done);
  }

  async #submit() {
    const name = this.#name.element.value.trim();
    const containerfile = this.#file.element.value;
    if (!name) {
      this.work.refuse("Name the image, for example localhost/mine.");
      return this.#name.element.focus();
    }
    if (!containerfile.trim()) {
      this.work.refuse("Write a Containerfile: it begins with FROM and an image that is on this worker.");
      return this.#file.element.focus();
    }
    const lines = this.#args.element.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const wrong = lines.find((line) => !/^[A-Za-z_][A-Za-z0-9_]*=/.test(line));
    if (wrong) {
      this.work.refuse(`A build argument is written NAME=value, not ${wrong}`);
      return this.#args.element.focus();
    }
    this.#output.clear();
    this.#done.hidden = true;
    const payload = {
      name, tag: this.#tag.element.value.trim() || undefined, containerfile, noCache: this.#noCache.checked,
      buildArgs: Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)])),
    };
    const answer = await this.work.run(this.#worker, "image.build", payload, ({ log }) => this.#output.add(`${log}\n`));
    this.#onBuilt();
    if (!answer) return;
    const full = `${name}:${payload.tag ?? "latest"}`;
    this.#done.replaceChildren("Built ", h("code", {}, full), ". A new DevBox can be made from it now.");
    this.#done.hidden = false;
  }
}
