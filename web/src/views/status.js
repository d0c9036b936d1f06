import { html } from "lit-html";

import { grouped } from "../format.js";
import { presentCounts, statusWords } from "../statuses.js";

/**
 * A status as a mark and a word: the colour is never alone.
 * @param {string} status
 */
export function badge(status) {
  return html`<span class="badge" data-status=${status}>${statusWords(status)}</span>`;
}

/**
 * The bar that shows how many tasks are where.
 * @param {import("../queries/jobs.js").Counts} counts
 * @param {number} taskCount
 */
export function bar(counts, taskCount) {
  const parts = presentCounts(counts);
  const words = parts.map(({ status, count }) => `${grouped(count)} ${status}`).join(", ");
  return html`
    <span class="bar" role="img" aria-label="${words || "no tasks yet"}; ${grouped(taskCount)} in all">
      ${parts.map(
        ({ status, count }) =>
          html`<i data-status=${status} .style=${`flex-grow:${count / Math.max(1, taskCount)}`}></i>`,
      )}
    </span>
  `;
}

/**
 * Tell that what is shown may be old, as long as it may be.
 * @param {boolean} isLive
 */
export function liveness(isLive) {
  return isLive
    ? html`<span class="live" title="Changes appear by themselves">live</span>`
    : html`<span class="live is-stale" role="status">connecting…</span>`;
}
