import { duration } from "./format.js";

/** @type {Set<ElapsedTime>} */
const ticking = new Set();
setInterval(() => ticking.forEach((each) => each.show()), 1000);

/** `<elapsed-time>`: how long ago `from` was, or how long it took until `until`; it counts on by itself. */
class ElapsedTime extends HTMLElement {
  /** @type {Date | null} */ #from = null;
  /** @type {Date | null} */ #until = null;

  set from(/** @type {Date | null} */ from) {
    this.#from = from;
    this.show();
  }

  set until(/** @type {Date | null} */ until) {
    this.#until = until;
    this.show();
  }

  connectedCallback() {
    ticking.add(this);
    this.show();
  }

  disconnectedCallback() {
    ticking.delete(this);
  }

  show() {
    const text = this.#from ? duration(+(this.#until ?? new Date()) - +this.#from) : "";
    if (this.textContent !== text) {
      this.replaceChildren(text);
    }
  }
}

customElements.define("elapsed-time", ElapsedTime);
