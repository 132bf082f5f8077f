// The dialog that makes a new DevBox, with what happens meanwhile and what went wrong.

import { h, setText, showError } from "./dom.js";
import { suggestName } from "./format.js";

// From the least to the most restrictive, as a worker's security floor counts.
const PROFILES = {
  open: "The machine's own network and all of its capabilities. Only for code you trust.",
  standard: "No capabilities; 4 GB, 2 CPUs, 256 processes. Reaches code hosts, package registries and AI providers, and nothing else.",
  strict: "As standard, with a read-only root filesystem and tighter limits. Reaches only the names that are allowed for it.",
  offline: "As strict, and never any network, environment or secrets.",
};
const SHOWN = ["standard", "strict", "offline", "open"];

const find = (name) => document.getElementById(`create-${name}`);

export class CreateDialog {
  #connection;
  #dialog = document.getElementById("create");
  #worker = null;
  #taken = new Set(); // names of the worker's DevBoxes
  #stop = null; // AbortController of the creation under way

  constructor(connection, { onCreated }) {
    this.#connection = connection;
    this.onCreated = onCreated;
    find("profile").append(...SHOWN.map((name) => h("option", { value: name }, name)));
    find("profile").onchange = () => this.#explain();
    find("cancel").onclick = () => (this.#stop ? this.#stop.abort() : this.#dialog.close());
    find("form").onsubmit = (event) => (event.preventDefault(), this.#create());
    this.#dialog.oncancel = (event) => {
      if (!this.#stop) return; // Escape closes
      event.preventDefault();
    };
  }

  show(worker, devboxes, defaultImage) {
    this.#worker = worker;
    setText(find("worker"), worker.register?.name ?? worker.id);
    this.#taken = new Set(devboxes.map(({ name }) => name));
    find("name").value = suggestName(this.#taken);
    find("image").value ||= defaultImage;
    const order = Object.keys(PROFILES);
    const floor = order.indexOf(worker.register?.securityFloor ?? "open");
    for (const option of find("profile").options) {
      option.disabled = order.indexOf(option.value) < floor;
      option.textContent = option.disabled ? `${option.value} (not allowed on this worker)` : option.value;
    }
    find("profile").value = floor > order.indexOf("standard") ? order[floor] : "standard";
    this.#explain();
    showError(find("error"), null);
    this.#dialog.showModal();
    find("name").select();
  }

  #explain() {
    setText(document.getElementById("profile-text"), PROFILES[find("profile").value]);
  }

  async #create() {
    if (this.#stop) return;
    const payload = { name: find("name").value.trim(), image: find("image").value.trim(), profile: find("profile").value };
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(payload.name)) {
      showError(find("error"), { message: "A name begins with a letter or digit and has letters, digits, dots, dashes and underscores." });
      find("name").focus();
      return;
    }
    // Asked for the same once more, a worker answers with the DevBox that is there: good for programs, puzzling here.
    if (this.#taken.has(payload.name)) {
      showError(find("error"), { message: `There is a DevBox ${payload.name} already: choose another name.` });
      find("name").focus();
      return;
    }
    if (!payload.image) {
      showError(find("error"), { message: "Name the image to make it from." });
      find("image").focus();
      return;
    }
    this.#stop = new AbortController();
    this.#work(true);
    const onProgress = (step) => this.#progress(step);
    try {
      const { devbox } = await this.#connection.request(this.#worker.id, "DevBox.create", payload, { onProgress, signal: this.#stop.signal });
      this.#dialog.close();
      this.onCreated(this.#worker, devbox, find("open").checked && devbox.state === "running");
    } catch (error) {
      if (this.#stop.signal.aborted && error.code === "CANCELLED") this.#dialog.close();
      showError(find("error"), error);
    } finally {
      this.#stop = null;
      this.#work(false);
    }
  }

  #work(isWorking) {
    find("fields").disabled = isWorking;
    find("submit").disabled = isWorking;
    find("progress").hidden = !isWorking;
    setText(find("cancel"), isWorking ? "Stop" : "Cancel");
    if (isWorking) {
      showError(find("error"), null);
      this.#progress({ message: "Asking the worker" });
    }
  }

  #progress({ message, fraction }) {
    if (typeof fraction === "number") find("bar").value = fraction;
    else find("bar").removeAttribute("value");
    setText(find("step"), message ?? "");
  }
}
