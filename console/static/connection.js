// The page's one WebSocket to the console: requests with answers, pushes, binary frames; comes back by itself.
// The protocol is described in console/page_link.py.

const HEADER_BYTES = 13;
const FIRST_DELAY_MS = 250;
const LAST_DELAY_MS = 5000;
const REPLACED = 4001;

/** What a command was refused with: a stable code and a sentence. */
export class Refusal extends Error {
  constructor({ code, message, details }) {
    super(message);
    this.code = code;
    this.details = details ?? {};
  }
}

/** Events: "status" (status changed), "message" (detail: a push), "hello" (detail: the first push). */
export class Connection extends EventTarget {
  status = "connecting"; // connecting, open, lost, refused
  serial = 0; // counts connections that got their hello
  frameHandlers = new Map(); // channel -> (offset, bytes); channels are of one connection

  #socket = null;
  #requests = new Map();
  #numbers = 0;
  #delayMs = FIRST_DELAY_MS;
  #timer = 0;

  constructor() {
    super();
    const soon = () => this.status !== "open" && document.visibilityState === "visible" && this.#retry(0);
    addEventListener("online", soon);
    document.addEventListener("visibilitychange", soon);
  }

  connect() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    const socket = new WebSocket(`ws://${location.host}/ws/browser?page=${pageId()}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#receive(JSON.parse(data)) : this.#frame(data));
    socket.onclose = (event) => this.#closed(socket, event.code);
    this.#socket = socket;
  }

  /** Send a command and resolve with its answer's payload, or reject with a Refusal. */
  request(worker, type, payload, { onProgress, signal } = {}) {
    return new Promise((resolve, reject) => {
      if (this.status !== "open") {
        reject(new Refusal({ code: "UNAVAILABLE", message: "This page is not connected to the console just now." }));
        return;
      }
      const id = String(++this.#numbers);
      this.#requests.set(id, { resolve, reject, onProgress });
      this.#send({ id, worker, type, payload });
      signal?.addEventListener("abort", () => this.#requests.has(id) && this.#send({ type: "cancel", id }));
    });
  }

  /** Send what has no answer; lost without a connection. */
  tell(worker, type, payload) {
    if (this.status === "open") this.#send({ worker, type, payload });
  }

  /** Send bytes of a terminal (kind 1) or a display (kind 2). */
  sendFrame(channel, offset, bytes, kind = 1) {
    const frame = new Uint8Array(HEADER_BYTES + bytes.length);
    const header = new DataView(frame.buffer);
    header.setUint8(0, kind);
    header.setUint32(1, channel);
    header.setBigUint64(5, BigInt(offset));
    frame.set(bytes, HEADER_BYTES);
    this.#put(frame);
  }

  #send(message) {
    this.#put(JSON.stringify(message));
  }

  #put(data) {
    // One that closes just now takes nothing, and says so: what was lost is known when it has closed.
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #receive(message) {
    const request = this.#requests.get(message.id);
    if (message.type === "hello") {
      this.serial += 1;
      this.#delayMs = FIRST_DELAY_MS;
      this.#setStatus("open");
      this.dispatchEvent(new CustomEvent("hello", { detail: message }));
    } else if (message.type === "response") {
      this.#requests.delete(message.id);
      if (message.ok) request?.resolve(message.payload);
      else request?.reject(new Refusal(message.error));
    } else if (message.type === "progress") {
      request?.onProgress?.(message.payload);
    } else {
      this.dispatchEvent(new CustomEvent("message", { detail: message }));
    }
  }

  #frame(buffer) {
    const header = new DataView(buffer);
    const handler = this.frameHandlers.get(header.getUint32(1));
    handler?.(Number(header.getBigUint64(5)), new Uint8Array(buffer, HEADER_BYTES));
  }

  async #closed(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.frameHandlers.clear();
    if (code === REPLACED) newPageId(); // this tab was duplicated: both kept the same name
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    this.#setStatus(this.status === "refused" ? "refused" : "lost");
    for (const { reject } of requests) {
      reject(new Refusal({ code: "UNAVAILABLE", message: "The connection to the console was lost; the command may have run." }));
    }
    this.#retry(this.#delayMs * (0.5 + Math.random() / 2));
    this.#delayMs = Math.min(this.#delayMs * 2, LAST_DELAY_MS);
    // A browser does not tell why a WebSocket was refused, so ask in another way.
    const answer = await fetch("/static/app.js", { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (this.status !== "open") this.#setStatus(answer?.status === 401 ? "refused" : "lost");
  }

  #retry(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.connect(), delayMs);
  }

  #setStatus(status) {
    if (status === this.status) return;
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }
}

/** The name under which a page keeps its terminals over a reload; another tab has another one. */
export function pageId() {
  return sessionStorage.getItem("clustercode.page") ?? newPageId();
}

function newPageId() {
  const id = crypto.randomUUID();
  sessionStorage.setItem("clustercode.page", id);
  return id;
}
