// The images of a worker: which there are and who uses them; looked up, deleted, built.

import { BuildForm } from "./build.js";
import { h, keyed, setText, showError } from "./dom.js";
import { bytes, duration } from "./format.js";
import { field, form } from "./work.js";

export class Images {
  #connection;
  #drawer;
  #users = "";
  #views = new Map(); // worker -> View; kept for a build that is under way

  constructor(connection, drawer) {
    this.#connection = connection;
    this.#drawer = drawer;
  }

  show(worker, nameOf) {
    if (!this.#views.has(worker.id)) this.#views.set(worker.id, new View(this.#connection, worker.id, nameOf));
    const view = this.#views.get(worker.id);
    this.#drawer.show(`${worker.id} images`, { title: "Images", lead: `What DevBoxes on ${worker.register?.name ?? worker.id} are made from.` }, view.element);
    view.refresh();
  }

  /** Take the DevBoxes of a worker as they are now: which images are in use follows from them. */
  update(worker, boxes) {
    const users = boxes.map(({ id }) => id).join();
    if (users === this.#users) return;
    this.#users = users;
    if (this.#drawer.key === `${worker} images`) this.#views.get(worker).refresh();
  }
}

class View {
  #connection;
  #worker;
  #nameOf; // of a DevBox, by its id
  #images = [];
  #asking = new Set(); // ids whose deletion waits for a yes
  #busy = new Set();
  #errors = new Map();
  #all = h("input", { type: "checkbox", "data-testid": "images-all", onchange: () => this.refresh() });
  #list = h("div", { className: "cards", "data-testid": "images" });
  #none = h("p", { className: "hint", hidden: true }, "None was made for DevBoxes yet: build one below.");
  #error = h("p", { className: "error", role: "alert", "data-testid": "images-error", hidden: true });
  #name = field("Look an image up", "image-name", { placeholder: "localhost/devbox:latest", maxLength: 512 });
  #found = h("p", { className: "done", role: "status", "data-testid": "image-found", hidden: true });

  constructor(connection, worker, nameOf) {
    this.#connection = connection;
    this.#worker = worker;
    this.#nameOf = nameOf;
    this.build = new BuildForm(connection, worker, () => this.refresh());
    this.element = h("div", { className: "details", "data-testid": "images-view" },
      h("label", { className: "check" }, this.#all, " Show all images of this machine, not only those made for DevBoxes"),
      this.#error, this.#list, this.#none,
      form(() => this.#check(), h("div", { className: "row bottom" }, this.#name.label, h("button", { "data-testid": "image-check" }, "Look up")), this.#found),
      h("h3", {}, "Build an image"), this.build.element);
  }

  async refresh() {
    try {
      const { images } = await this.#connection.request(this.#worker, "images.list", { all: this.#all.checked });
      this.#images = images.sort((a, b) => title(a).localeCompare(title(b)));
      showError(this.#error, null);
      this.#none.hidden = images.length > 0;
    } catch (error) {
      showError(this.#error, error);
    }
    this.#render();
  }

  #render() {
    keyed(this.#list, this.#images, ({ id }) => id, (image) => this.#create(image), (card, image) => this.#fill(card, image));
  }

  #create({ id }) {
    return h("article", { className: "card image", "data-testid": "image", "data-image": id },
      h("header", {}, h("strong"), h("span", { className: "state" })),
      h("p", { className: "meta" }),
      h("div", { className: "actions" }, h("button", { "data-testid": "image-delete", onclick: () => this.#ask(id) }, "Delete")),
      h("div", { className: "asking" },
        h("span", {}, "It has to be built or fetched again then."),
        h("button", { "data-testid": "image-delete-yes", onclick: () => this.#delete(id) }, "Delete"),
        h("button", { className: "quiet", "data-testid": "image-delete-no", onclick: () => this.#ask(id) }, "Keep")),
      h("p", { className: "error", role: "alert", "data-testid": "image-error", hidden: true }));
  }

  #fill(card, image) {
    const find = (selector) => card.querySelector(selector);
    const name = title(image);
    card.dataset.name = name;
    setText(find("strong"), name);
    find("strong").title = [...image.tags, image.id].join("\n");
    setText(find(".state"), `${bytes(image.sizeBytes)} · ${duration(Date.now() - Date.parse(image.createdAt))} old`);
    const users = image.devboxes.map((id) => this.#nameOf(id) ?? id);
    setText(find(".meta"), users.length ? `Used by ${users.join(", ")}` : "Not used by a DevBox");
    find("[data-testid=image-delete]").setAttribute("aria-label", `Delete ${name}`);
    const asks = this.#asking.has(image.id);
    find(".actions").hidden = asks;
    find(".asking").hidden = !asks;
    for (const button of card.querySelectorAll("button")) button.disabled = this.#busy.has(image.id);
    showError(find(".error"), this.#errors.get(image.id));
  }

  #ask(id) {
    this.#errors.delete(id);
    if (!this.#asking.delete(id)) this.#asking.add(id);
    this.#render();
    const next = this.#asking.has(id) ? "image-delete-no" : "image-delete";
    this.#list.querySelector(`[data-image="${CSS.escape(id)}"] [data-testid=${next}]`)?.focus();
  }

  async #delete(id) {
    const image = this.#images.find((item) => item.id === id);
    this.#busy.add(id);
    this.#render();
    try {
      await this.#connection.request(this.#worker, "image.delete", { image: image.tags[0] ?? image.id });
    } catch (error) {
      this.#errors.set(id, error);
    }
    this.#busy.delete(id);
    this.#asking.delete(id);
    await this.refresh();
  }

  async #check() {
    const name = this.#name.element.value.trim();
    if (!name) return this.#name.element.focus();
    let says;
    try {
      const answer = await this.#connection.request(this.#worker, "image.check", { image: name });
      says = answer.exists ? `${name} is on this worker: ${bytes(answer.sizeBytes)}.` : `${name} is not on this worker. A new DevBox of it would have to fetch it.`;
    } catch (error) {
      says = error.message;
    }
    setText(this.#found, says);
    this.#found.hidden = false;
  }
}

function title(image) {
  return image.tags[0] ?? image.id.replace("sha256:", "").slice(0, 12);
}
