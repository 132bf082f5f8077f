// Keystrokes of one terminal that may still be needed again. The same rules as console/input_buffer.py.

const MAX_PIECE_BYTES = 64 * 1024;
const MAX_IN_FLIGHT_BYTES = 256 * 1024;

/** base <= sent <= end: below base all reached the program, below sent all is on its way. */
export class InputBuffer {
  base = 0;
  sent = 0;
  #bytes = new Uint8Array(0);

  get end() {
    return this.base + this.#bytes.length;
  }

  type(data) {
    const bytes = new Uint8Array(this.#bytes.length + data.length);
    bytes.set(this.#bytes);
    bytes.set(data, this.#bytes.length);
    this.#bytes = bytes;
  }

  /** Return {offset, bytes} to send next, or null while enough is in flight. */
  nextPiece() {
    const size = Math.min(this.end - this.sent, MAX_PIECE_BYTES, this.base + MAX_IN_FLIGHT_BYTES - this.sent);
    if (size <= 0) return null;
    const offset = this.sent;
    this.sent += size;
    return { offset, bytes: this.#bytes.subarray(offset - this.base, offset - this.base + size) };
  }

  acknowledged(offset) {
    if (offset <= this.base || offset > this.sent) return;
    this.#bytes = this.#bytes.slice(offset - this.base);
    this.base = offset;
  }

  /** Go on from what the worker has: what is above is sent again, what is below was not lost. */
  resume(offset) {
    const fits = offset >= this.base && offset <= this.end;
    this.#bytes = fits ? this.#bytes.slice(offset - this.base) : new Uint8Array(0);
    this.base = this.sent = offset;
  }

  /** Send again from here, after the worker refused what came later. */
  rewind(offset) {
    if (offset >= this.base && offset < this.sent) this.sent = offset;
  }
}
