// One display: noVNC, and the viewer of a DevBox's display that it speaks through. A viewer does not outlive the
// connection it was opened over: after a cut another one is opened, and the desktop is as it was.

import RFB from "./vendor/novnc/core/rfb.js";
import { h } from "./dom.js";
import { DisplayTools } from "./display_tools.js";

const DISPLAY = 2; // the kind of its binary frames
const MAX_FRAME_BYTES = 64 * 1024;
const HALF_WINDOW_BYTES = 64 * 1024;
const IDLE_ACK_MS = 60;
const RETRY_MS = 1500;

/** What noVNC takes for a WebSocket: the display's bytes on the page's own connection. */
class Channel {
  binaryType = "arraybuffer";
  protocol = "";
  readyState = "open";
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;

  #connection;
  #channel;
  #sent = 0;

  constructor(connection, channel) {
    this.#connection = connection;
    this.#channel = channel;
  }

  send(data) {
    if (this.readyState !== "open") return;
    for (let start = 0; start < data.length; start += MAX_FRAME_BYTES) {
      const piece = data.subarray(start, start + MAX_FRAME_BYTES);
      this.#connection.sendFrame(this.#channel, this.#sent, piece, DISPLAY);
      this.#sent += piece.length;
    }
  }

  close() {
    if (this.readyState !== "open") return;
    this.readyState = "closed";
    queueMicrotask(() => this.onclose?.({ code: 1000, reason: "", wasClean: true }));
  }
}

/**
 * What `Tabs` shows like a terminal. States: "away" (no way to the display just now; `error` may say why), "opening",
 * "live", "failed" (refused; `error` says why).
 * Events: "state", "retry", "leave".
 */
export class DisplaySession extends EventTarget {
  isDisplay = true;
  state = "away";
  error = null;
  sessionId = crypto.randomUUID(); // until the console gives one

  #connection;
  #rfb = null;
  #channel = null;
  #number = null; // of the channel
  #openedAs = null; // which connections the viewer was opened over
  #received = 0;
  #acked = 0;
  #ackTimer = 0;
  #retryTimer = 0;
  #isDisposed = false;

  constructor(connection, { worker, devboxId, title }) {
    super();
    this.#connection = connection;
    this.worker = worker;
    this.devboxId = devboxId;
    this.title = title;
    this.screen = h("div", { className: "desktop", "data-testid": "desktop" });
    this.tools = new DisplayTools(this, this.screen);
    this.host = h("div", { className: "display", "data-testid": "display" }, this.tools.element, this.screen);
    // noVNC takes every key: this one gives the keyboard back to the page.
    this.host.addEventListener("keydown", (event) => {
      if (!event.ctrlKey || event.key !== "F6") return;
      event.preventDefault();
      event.stopPropagation();
      this.dispatchEvent(new Event("leave"));
    }, { capture: true });
  }

  /** noVNC's object while there is a connection, for the tools and for tests. */
  get rfb() {
    return this.#rfb;
  }

  mount(panel) {
    panel.prepend(this.host);
  }

  focus() {
    this.#rfb?.focus();
  }

  /** Open a viewer if the way to the worker is new. Call whenever something changed. */
  sync(worker) {
    if (this.state === "failed") return;
    if (this.#connection.status !== "open" || !worker?.connected) {
      this.#drop();
      this.error = null;
      this.#setState("away");
      return;
    }
    const way = `${this.#connection.serial}/${worker.connection}`;
    if (this.#openedAs !== way) this.#open(way);
  }

  /** Try again after it failed. */
  take(worker) {
    this.#setState("opening");
    this.sync(worker);
  }

  async #open(way) {
    this.#drop();
    this.#openedAs = way;
    this.#setState("opening");
    const size = this.screen.getBoundingClientRect();
    const payload = { devboxId: this.devboxId };
    if (size.width >= 200 && size.height >= 150) {
      payload.width = Math.round(size.width);
      payload.height = Math.round(size.height);
    }
    try {
      const answer = await this.#connection.request(this.worker, "display.open", payload);
      if (this.#openedAs === way && !this.#isDisposed) this.#opened(answer);
      else this.#close(answer.sessionId);
    } catch (error) {
      if (this.#openedAs !== way || this.#isDisposed) return;
      this.error = error;
      if (error.code === "UNAVAILABLE") this.#awayFor(error);
      else this.#setState("failed");
    }
  }

  #opened({ sessionId, channel }) {
    this.sessionId = sessionId;
    this.error = null;
    this.#received = this.#acked = 0;
    this.#number = channel;
    this.#channel = new Channel(this.#connection, channel);
    this.#connection.frameHandlers.set(channel, (offset, data) => this.#take(data));
    this.#rfb = new RFB(this.screen, this.#channel, { shared: true });
    this.#rfb.background = "transparent";
    this.#rfb.qualityLevel = 8;
    this.tools.connected();
    this.#rfb.addEventListener("connect", () => this.#setState("live"));
    this.#rfb.addEventListener("clipboard", ({ detail }) => this.tools.received(detail.text));
    this.#rfb.addEventListener("credentialsrequired", () => this.#broken("This display asks for a password, which none of ours does."));
    this.#rfb.addEventListener("disconnect", ({ target, detail }) => {
      if (target === this.#rfb && !detail.clean) this.#broken("The display sent what noVNC does not understand.");
    });
  }

  #take(data) {
    // A copy: noVNC may keep what it cannot draw yet, and the frame's buffer has a header before it.
    this.#channel?.onmessage?.({ data: data.slice().buffer });
    this.#received += data.length;
    if (this.#received - this.#acked >= HALF_WINDOW_BYTES) this.#ack();
    else this.#ackTimer ||= setTimeout(() => this.#ack(), IDLE_ACK_MS);
  }

  #ack() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = 0;
    if (this.#channel === null || this.#received <= this.#acked) return;
    this.#acked = this.#received;
    this.#connection.tell(this.worker, "display.ack", { sessionId: this.sessionId, offset: this.#acked });
  }

  /** Take a push about this viewer. */
  receive(message) {
    if (message.type === "display.closed") this.#awayFor({ code: "UNAVAILABLE", message: message.reason });
  }

  #awayFor(error) {
    this.#drop();
    this.error = error;
    this.#setState("away");
    this.#retryTimer = setTimeout(() => this.dispatchEvent(new Event("retry")), RETRY_MS);
  }

  #broken(message) {
    const { sessionId } = this;
    this.#drop();
    this.#close(sessionId);
    this.error = { code: "INTERNAL", message };
    this.#setState("failed");
  }

  /** Let go of noVNC and of the viewer, which is over or about to be closed. */
  #drop() {
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#retryTimer);
    this.#ackTimer = 0;
    this.#openedAs = null;
    if (this.#number !== null) this.#connection.frameHandlers.delete(this.#number);
    const rfb = this.#rfb;
    this.#rfb = this.#number = null;
    this.tools.disconnected();
    if (rfb) rfb.disconnect();
    this.#channel = null;
  }

  #close(sessionId) {
    this.#connection.request(this.worker, "display.close", { sessionId }).catch(() => {}); // it ended by itself
  }

  dispose() {
    const wasOpen = this.#number !== null;
    this.#isDisposed = true;
    this.#drop();
    if (wasOpen) this.#close(this.sessionId);
    this.tools.dispose();
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
