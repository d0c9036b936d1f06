import { doc } from "firebase/firestore";

import { watchDocument } from "./watch.js";

export const TASKS_PER_PAGE = 100;

/**
 * A hundred tasks at a glance. Shapes: every map is keyed by task id; `placed` holds the attempt number last given to
 * the scheduler; `waiting_for` is why pending tasks that are not there yet wait.
 * @typedef {object} Page
 * @property {number} number
 * @property {Record<string, import("../statuses.js").TaskStatus>} statuses
 * @property {Record<string, number>} attempts
 * @property {Record<string, number>} placed
 * @property {string | null | undefined} waiting_for
 * @property {import("./jobs.js").Counts} counts
 * @property {number} cost_micros
 */

/**
 * Call `onPage` with the page, null while it has not been laid out, now and after each change. Returns: stop().
 * @param {import("./database.js").Database} db
 * @param {{accountId: string, jobId: string, number: number}} where
 * @param {(page: Page | null) => void} onPage
 * @param {(error: Error) => void} onError
 */
export function watchPage(db, { accountId, jobId, number }, onPage, onError) {
  const page = doc(db, "accounts", accountId, "jobs", jobId, "pages", String(number));
  return watchDocument(page, onPage, onError);
}
