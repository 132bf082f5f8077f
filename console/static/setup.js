// Setting a DevBox up: a repository cloned into it, and CLAUDE.md told of the work.

import { h } from "./dom.js";
import { Work, field, form } from "./work.js";

export class SetupForm {
  #worker;
  #box;
  #url = field("Repository", "setup-url", { placeholder: "https://example.com/you/project.git", maxLength: 4096 });
  #branch = field("Branch", "setup-branch", { placeholder: "the repository's default", maxLength: 255 });
  #credential = field("Password or token", "setup-credential", { type: "password", autocomplete: "new-password" }, { hint: "For an https address that asks for one. It is stored nowhere." });
  #commit = field("Commit", "setup-commit", { placeholder: "the branch's newest" });
  #depth = field("Commits of history", "setup-depth", { type: "number", min: 1, placeholder: "all" });
  #workdir = field("Folder in the DevBox", "setup-workdir", { placeholder: "a folder of its name in /workspace" });
  #ticketId = field("Ticket", "setup-ticket-id", { placeholder: "ABC-12" });
  #title = field("Title", "setup-ticket-title");
  #body = field("Description", "setup-ticket-body", { rows: 3, spellcheck: true }, { tag: "textarea" });
  #instructions = field("Instructions", "setup-instructions", { rows: 3, spellcheck: true }, { tag: "textarea", hint: "Ticket and instructions go into the repository's CLAUDE.md, in a section of their own." });
  #offline = h("p", { className: "hint", "data-testid": "setup-offline" }, "This DevBox has no network: give the path of a repository that is inside it, as /workspace/project.");
  #done = h("p", { className: "done", role: "status", "data-testid": "setup-done", hidden: true });
  #fields = h("fieldset", {},
    this.#url.label, this.#offline,
    h("div", { className: "pair" }, this.#branch.label, this.#credential.label),
    h("div", { className: "pair narrow-first" }, this.#ticketId.label, this.#title.label),
    this.#body.label, this.#instructions.label,
    h("details", {}, h("summary", {}, "More"), h("div", { className: "more" },
      h("div", { className: "pair" }, this.#commit.label, this.#depth.label), this.#workdir.label)),
    h("div", { className: "row end" }, h("button", { className: "primary", "data-testid": "setup-submit" }, "Set up")));

  constructor(connection, worker) {
    this.#worker = worker;
    this.work = new Work(connection, "setup", this.#fields);
    this.element = form(() => this.#submit(), this.#fields, this.work.element, this.#done);
  }

  update(box) {
    this.#box = box;
    this.#offline.hidden = box.profile === "open";
    if (!this.work.isBusy) this.#fields.disabled = box.state !== "running";
  }

  async #submit() {
    const value = ({ element }) => element.value.trim() || undefined;
    this.#done.hidden = true;
    if (!value(this.#url)) {
      this.work.refuse("Name the repository: an https or ssh address, or a path in the DevBox.");
      return this.#url.element.focus();
    }
    const [id, title, body] = [this.#ticketId, this.#title, this.#body].map(value);
    const payload = {
      devboxId: this.#box.id,
      repository: {
        url: value(this.#url), branch: value(this.#branch), commit: value(this.#commit),
        depth: value(this.#depth) && Number(value(this.#depth)), credential: this.#credential.element.value || undefined,
      },
      ticket: id || title || body ? { id: id ?? "", title: title ?? "", body: body ?? "" } : undefined,
      instructions: value(this.#instructions),
      workdir: value(this.#workdir),
    };
    const answer = await this.work.run(this.#worker, "DevBox.setup", payload);
    this.#fields.disabled = this.#box.state !== "running";
    if (!answer) return;
    this.#credential.element.value = "";
    const at = answer.branch ? `branch ${answer.branch}, ` : "";
    const commit = answer.commit ? `commit ${answer.commit.slice(0, 10)}` : "no commits yet";
    this.#done.replaceChildren("Ready in ", h("code", {}, answer.workdir), `: ${at}${commit}.`, answer.claudeMd ? " CLAUDE.md tells of the work." : "");
    this.#done.hidden = false;
  }
}
