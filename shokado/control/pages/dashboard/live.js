// The connection: one question a second while the page is seen, fewer while nobody answers, none while it is hidden.

import { ask, Refusal } from './server.js';

const EVERY_MS = 1000;
const LONGEST_WAIT_MS = 5000;
const TIMEOUT_MS = 5000;

/** `heard` is given every answer, and `lost` what is wrong, or null when all is well again. */
export class Live {
  #timer = 0;
  #running = false;
  #failures = 0;

  constructor({ after, heard, lost }) {
    this.after = after;
    this.heard = heard;
    this.lost = lost;
  }

  start() {
    document.addEventListener('visibilitychange', () => (document.hidden ? this.#pause() : this.now()));
    addEventListener('online', () => this.now());
    if (!document.hidden) this.now();
  }

  /** Ask now, and then again every second. */
  async now() {
    this.#pause();
    if (this.#running) return;
    this.#running = true;
    const began = performance.now();
    let wait = EVERY_MS;
    try {
      const after = this.after();
      const answer = await ask(`v1/dashboard${after === undefined ? '' : `?after=${after}`}`, { timeout: TIMEOUT_MS });
      this.#failures = 0;
      this.lost(null);
      this.heard(answer);
      wait = Math.max(0, EVERY_MS - (performance.now() - began));
    } catch (error) {
      this.#failures += 1;
      this.lost(error);
      const asked = error instanceof Refusal ? 1000 * error.retryAfter : 0;
      wait = Math.max(asked, Math.min(LONGEST_WAIT_MS, EVERY_MS * 2 ** (this.#failures - 1)));
    }
    this.#running = false;
    if (!document.hidden) this.#timer = setTimeout(() => this.now(), wait);
  }

  #pause() {
    clearTimeout(this.#timer);
  }
}
