// One terminal: xterm.js, and the session of a worker that it shows. Bytes are addressed by absolute offset, so a
// cut connection, a repeat and a loss are one case: go on from the next byte this page has not got.

import { FitAddon } from "./vendor/addon-fit.mjs";
import { Unicode11Addon } from "./vendor/addon-unicode11.mjs";
import { WebLinksAddon } from "./vendor/addon-web-links.mjs";
import { Terminal } from "./vendor/xterm.mjs";
import { h } from "./dom.js";
import { bytes as bytesText } from "./format.js";
import { InputBuffer } from "./input.js";
import { theme } from "./theme.js";

const HALF_WINDOW_BYTES = 64 * 1024;
const IDLE_ACK_MS = 60;
const RESIZE_MS = 80;
const RETRY_MS = 1500;
// What a terminal answers by itself when it is asked about itself: DA, DSR, CPR, DECRPM, window reports, OSC and DCS.
const REPORT = /^\x1b(\[[?>=]?[\d;]*\$?[cnRyt]|\[[IO]$|[P\]])/;
// Ends a sequence cut in its middle, then undoes what a full-screen program may have set. The cursor is saved first:
// leaving the alternate screen restores it, and there may be none to leave.
const SOFT_RESET = "\x18\x1b7\x1b[?1049l\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[0m";
const encoder = new TextEncoder();

/**
 * States: "away" (no way to the session just now; `error` may say why), "opening", "live", "elsewhere" (another viewer has it), "failed"
 * (refused; `error` says why), "ended" (Enter opens a new shell).
 * Events: "state", "title", "session" (shows another session id now).
 */
export class TerminalSession extends EventTarget {
  state = "away";
  error = null;
  input = new InputBuffer();

  #connection;
  #fit = new FitAddon();
  #epoch = 0; // of the session shown: callbacks of an earlier one are ignored
  #received = 0; // offset of the next byte to come
  #drawn = 0;
  #acked = 0;
  #replayEnd = 0; // output below was written before this page came
  #isKnown; // whether the session was there before this page opened it
  #hasOutput = false;
  #channel = null;
  #openedAs = null; // which connections the session was opened over
  #ackTimer = 0;
  #resizeTimer = 0;
  #retryTimer = 0;

  constructor(connection, { worker, devboxId, sessionId, title, isElsewhere = false }) {
    super();
    this.#connection = connection;
    this.worker = worker;
    this.devboxId = devboxId;
    this.sessionId = sessionId ?? crypto.randomUUID();
    this.title = title;
    this.#isKnown = sessionId !== undefined;
    if (isElsewhere) this.state = "elsewhere";
    this.term = new Terminal({
      allowProposedApi: true, // Unicode 11 widths
      cursorBlink: true,
      fontFamily: 'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: 14,
      lineHeight: 1.15,
      scrollback: 10_000,
      theme: theme(),
    });
    this.term.loadAddon(this.#fit);
    this.term.loadAddon(new Unicode11Addon());
    this.term.unicode.activeVersion = "11";
    this.term.loadAddon(new WebLinksAddon((_event, uri) => open(uri, "_blank", "noopener,noreferrer")));
    this.screen = h("div", { className: "screen" });
    this.term.onData((text) => this.#typed(encoder.encode(text), text));
    this.term.onBinary((text) => this.#typed(Uint8Array.from(text, (char) => char.charCodeAt(0)), text));
    this.term.onResize(() => this.#sizeChanged());
    this.term.attachCustomKeyEventHandler((event) => this.#key(event));
    this.observer = new ResizeObserver(() => this.fitSoon());
  }

  // --- Shown or not -------------------------------------------------------------------------------------------

  /** Draw into an element that is in the page. */
  mount(host) {
    host.prepend(this.screen);
    if (!this.term.element) this.term.open(this.screen);
    this.observer.observe(host);
    this.fit();
  }

  focus() {
    this.term.focus();
  }

  recolour() {
    this.term.options.theme = theme();
  }

  fitSoon() {
    clearTimeout(this.#resizeTimer);
    this.#resizeTimer = setTimeout(() => this.fit(), RESIZE_MS);
  }

  fit() {
    if (this.screen.offsetParent) this.#fit.fit();
  }

  // --- The session ----------------------------------------------------------------------------------------------

  /** Open or continue the session if the way to its worker is new. Call whenever something changed. */
  sync(worker) {
    if (["elsewhere", "failed", "ended"].includes(this.state)) return;
    if (this.#connection.status !== "open" || !worker?.connected) {
      this.#openedAs = this.#channel = this.error = null;
      this.#setState("away");
      return;
    }
    const way = `${this.#connection.serial}/${worker.connection}`;
    if (this.#openedAs !== way) this.#open(way);
  }

  /** Show the session here, taking it from another viewer, or try again after it failed. */
  take(worker) {
    this.#openedAs = null;
    this.#setState("opening");
    this.sync(worker);
  }

  async #open(way) {
    clearTimeout(this.#retryTimer);
    const epoch = this.#epoch;
    this.#openedAs = way;
    this.#channel = null;
    this.#setState("opening");
    this.fit();
    const { cols, rows } = this.term;
    const payload = { devboxId: this.devboxId, sessionId: this.sessionId, cols, rows };
    if (this.#hasOutput) payload.fromOffset = this.#received;
    try {
      const answer = await this.#connection.request(this.worker, "terminal.open", payload);
      if (epoch === this.#epoch && this.#openedAs === way) this.#opened(answer, { cols, rows });
    } catch (error) {
      if (epoch !== this.#epoch || this.#openedAs !== way) return;
      if (error.code === "UNAVAILABLE") {
        this.#openedAs = null;
        this.error = error;
        this.#setState("away");
        this.#retryTimer = setTimeout(() => this.dispatchEvent(new Event("retry")), RETRY_MS);
      } else {
        this.error = error;
        this.#setState("failed");
      }
    }
  }

  #opened(answer, size) {
    const isNew = !answer.resumed;
    const lost = this.#hasOutput && !isNew ? answer.offset - this.#received : 0;
    if (isNew && (this.#isKnown || this.#hasOutput)) {
      this.#startOver();
      this.#note("The earlier shell has ended. This is a new one.");
    } else if (lost > 0) {
      this.#note(`${bytesText(lost)} of output were dropped while this page was away.`);
    }
    if (isNew || !this.#hasOutput || lost !== 0) {
      this.#received = this.#drawn = answer.offset;
    }
    this.#isKnown = this.#hasOutput = true;
    this.#acked = answer.offset;
    this.#replayEnd = isNew ? 0 : answer.endOffset;
    this.error = null;
    this.#channel = answer.channel;
    this.#connection.frameHandlers.set(answer.channel, (offset, data) => this.#output(offset, data));
    this.input.resume(answer.inputOffset);
    this.#setState("live");
    this.#sendInput();
    if (lost !== 0) this.#repaint();
    else if (size.cols !== this.term.cols || size.rows !== this.term.rows) this.#sizeChanged();
    this.#ackSoon();
  }

  #output(offset, data) {
    if (this.state !== "live") return;
    if (offset > this.#received) {
      this.#note(`${bytesText(offset - this.#received)} of output were dropped: this page was too slow.`);
      this.#received = offset;
      this.#repaint();
    }
    let fresh = data.subarray(Math.max(0, this.#received - offset));
    while (fresh.length > 0) {
      // Cut where the replay ends, so that answers to what follows are sent again.
      const left = this.#replayEnd - this.#received;
      const piece = left > 0 ? fresh.subarray(0, left) : fresh;
      fresh = fresh.subarray(piece.length);
      this.#received += piece.length;
      const [epoch, end] = [this.#epoch, this.#received];
      this.term.write(piece, () => epoch === this.#epoch && this.#drew(end));
    }
  }

  #drew(end) {
    const wasReplay = this.#drawn < this.#replayEnd;
    this.#drawn = Math.max(this.#drawn, end);
    // A full-screen program's picture depends on what came before the oldest byte kept: have it drawn anew.
    if (wasReplay && end >= this.#replayEnd && this.term.buffer.active.type === "alternate") this.#repaint();
    if (this.#drawn - this.#acked >= HALF_WINDOW_BYTES) this.#ack();
    else this.#ackSoon();
  }

  #ackSoon() {
    this.#ackTimer ||= setTimeout(() => this.#ack(), IDLE_ACK_MS);
  }

  #ack() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = 0;
    if (this.state !== "live" || this.#drawn <= this.#acked) return;
    this.#acked = this.#drawn;
    this.#connection.tell(this.worker, "terminal.ack", { sessionId: this.sessionId, offset: this.#acked });
  }

  #typed(data, text) {
    if (this.#drawn < this.#replayEnd && REPORT.test(text)) return; // the program that asked is long gone
    if (this.state === "ended") {
      if (text === "\r") this.#renew();
      return;
    }
    if (this.state === "elsewhere" || this.state === "failed") return;
    this.input.type(data);
    this.#sendInput();
  }

  #sendInput() {
    if (this.state !== "live") return; // kept; sent when the session is open again
    for (let piece; (piece = this.input.nextPiece()); ) {
      this.#connection.sendFrame(this.#channel, piece.offset, piece.bytes);
    }
  }

  /** Take a push about this session. */
  receive(message) {
    if (message.type === "terminal.inputAck") {
      this.input.acknowledged(message.offset);
      this.#sendInput();
    } else if (message.type === "terminal.exit") {
      const code = message.exitCode < 0 ? "" : ` with exit code ${message.exitCode}`; // below 0: nobody knows
      this.#note(`The shell ended${code}. Enter opens a new one.`);
      this.#setState("ended");
    } else if (message.type === "terminal.taken") {
      this.#openedAs = this.#channel = null;
      this.#setState("elsewhere");
    } else if (message.type === "terminal.error") {
      const offset = message.error.details?.inputOffset;
      if (message.error.code === "RESOURCE_EXHAUSTED" && Number.isInteger(offset)) {
        this.input.rewind(offset); // the program does not read: go on with its next acknowledgement
      } else {
        this.error = message.error;
        this.#openedAs = null; // the worker lost the way to the session: open it again
        this.#setState("away");
        this.#retryTimer = setTimeout(() => this.dispatchEvent(new Event("retry")), RETRY_MS);
      }
    }
  }

  /** Learn that a session shown elsewhere is gone. */
  gone() {
    this.#note("The shell ended. Enter opens a new one.");
    this.#setState("ended");
  }

  #renew() {
    this.#startOver();
    this.sessionId = crypto.randomUUID();
    this.#isKnown = false;
    this.#openedAs = null;
    this.#setState("opening");
    this.dispatchEvent(new Event("session"));
  }

  #startOver() {
    this.#epoch += 1;
    this.#received = this.#drawn = this.#acked = this.#replayEnd = 0;
    this.#hasOutput = false;
    this.input = new InputBuffer();
  }

  #note(text) {
    this.term.write(`${SOFT_RESET}\r\n\x1b[2m${text}\x1b[0m\r\n`);
  }

  // --- Size and keys ----------------------------------------------------------------------------------------------

  #sizeChanged() {
    if (this.state === "live") this.#tellSize(this.term.cols, this.term.rows);
  }

  #tellSize(cols, rows) {
    this.#connection.tell(this.worker, "terminal.resize", { sessionId: this.sessionId, cols, rows });
  }

  /** Make a full-screen program draw its picture anew: the same size again would send it no signal. */
  #repaint() {
    this.#tellSize(this.term.cols, Math.max(1, this.term.rows - 1));
    setTimeout(() => this.#sizeChanged(), RESIZE_MS);
  }

  #key(event) {
    if (event.type !== "keydown") return true;
    if (event.ctrlKey && event.shiftKey && event.code === "KeyC") {
      event.preventDefault(); // the browser's own tools
      if (this.term.hasSelection()) navigator.clipboard.writeText(this.term.getSelection());
      return false;
    }
    if (event.ctrlKey && event.shiftKey && event.code === "KeyV") return false; // the browser pastes
    if (event.ctrlKey && event.key === "F6") {
      this.dispatchEvent(new Event("leave"));
      return false;
    }
    return true;
  }

  // --- The end ------------------------------------------------------------------------------------------------------

  dispose() {
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#resizeTimer);
    clearTimeout(this.#retryTimer);
    this.#epoch += 1;
    this.#openedAs = null;
    if (this.#channel !== null) this.#connection.frameHandlers.delete(this.#channel);
    this.observer.disconnect();
    this.term.dispose();
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
