import { doc } from "firebase/firestore";

import { watchDocument } from "./watch.js";

/**
 * One try of a task on one instance; it runs while `outcome` is null. Units: money in micro-dollars.
 * @typedef {object} Attempt
 * @property {number} number
 * @property {string} instance
 * @property {string} zone
 * @property {string} instance_type
 * @property {boolean} is_preemptible
 * @property {number} price_micros_per_minute
 * @property {Date} started_at
 * @property {Date | null} ended_at
 * @property {string | null} outcome
 * @property {number | null} exit_code
 * @property {string} reason
 * @property {string} [note] why it ran elsewhere than the job asks for
 * @property {number} billed_minutes
 * @property {number} cost_micros
 * @property {number} memory_peak_mib
 * @property {number} output_count
 * @property {number} output_bytes
 *
 * One command for one chunk of frames.
 * @typedef {object} Task
 * @property {string} task_id
 * @property {string} command
 * @property {string} frames
 * @property {boolean} is_scout
 * @property {import("../statuses.js").TaskStatus} status
 * @property {number} attempt
 * @property {Attempt[]} attempts
 */

/**
 * Call `onTask` with the task, null where there is none, now and after each change. Returns: stop().
 * @param {import("./database.js").Database} db
 * @param {{accountId: string, jobId: string, taskId: string}} where
 * @param {(task: Task | null) => void} onTask
 * @param {(error: Error) => void} onError
 */
export function watchTask(db, { accountId, jobId, taskId }, onTask, onError) {
  return watchDocument(doc(db, "accounts", accountId, "jobs", jobId, "tasks", taskId), onTask, onError);
}
