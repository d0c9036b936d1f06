import { collection, doc, limit, onSnapshot, orderBy, query, where } from "firebase/firestore";

import { watchDocument, withDates } from "./watch.js";

/**
 * @typedef {Partial<Record<import("../statuses.js").TaskStatus, number>>} Counts
 *
 * One submission. Units: money in micro-dollars.
 * @typedef {object} Job
 * @property {string} job_id
 * @property {string} title
 * @property {string} project
 * @property {string} owner
 * @property {Date} created_at
 * @property {Date | null} started_at
 * @property {Date | null} ended_at
 * @property {string} status
 * @property {number} task_count
 * @property {number} page_count
 * @property {string} instance_type
 * @property {boolean} is_preemptible
 * @property {number} priority
 * @property {string} output_path
 * @property {Counts} counts
 * @property {number} cost_micros
 * @property {number} price_micros_per_minute
 * @property {string | null} waiting_for
 * @property {string} waiting_note
 * @property {boolean} scouts_pending
 * @property {{state: string, done_count: number, total_count: number, reason: string}} sync
 * @property {string} orchestrator_id
 * @property {Record<string, string>} metadata
 */

const MAX_DISJUNCTIONS = 30; // of one Firestore query: projects times statuses

/**
 * Call `onJobs` with the newest jobs, newest first, now and after each change. Returns: stop().
 *
 * Who may see only some projects must ask for those: a rule is no filter, it refuses the whole query.
 * Shapes: at most `count` jobs; `hasMore` tells whether there are older ones; empty `statuses` means any.
 * @param {import("./database.js").Database} db
 * @param {{accountId: string, projects: string[] | null, statuses: string[], count: number}} asked
 * @param {(found: {jobs: Job[], hasMore: boolean, isLive: boolean}) => void} onJobs
 * @param {(error: Error) => void} onError
 */
export function watchJobs(db, { accountId, projects, statuses, count }, onJobs, onError) {
  const jobs = collection(db, "accounts", accountId, "jobs");
  const byStatus = statuses.length > 0 ? [where("status", "in", statuses)] : [];
  const groups = projects === null ? [null] : inGroups(projects, statuses.length);
  /** @type {{jobs: Job[], isLive: boolean}[]} */
  const parts = [];

  const tell = () => {
    if (groups.some((_, index) => parts[index] === undefined)) {
      return;
    }
    const found = parts.flatMap((part) => part.jobs).sort((a, b) => +b.created_at - +a.created_at);
    onJobs({
      jobs: found.slice(0, count),
      hasMore: found.length > count,
      isLive: parts.every((part) => part.isLive),
    });
  };
  const stops = groups.map((group, index) => {
    const ofProjects = group === null ? [] : [where("project", "in", group)];
    return onSnapshot(
      query(jobs, ...ofProjects, ...byStatus, orderBy("created_at", "desc"), limit(count + 1)),
      { includeMetadataChanges: true },
      (snapshot) => {
        const isLive = !snapshot.metadata.fromCache;
        if (isLive || !snapshot.empty) {
          parts[index] = { jobs: snapshot.docs.map((each) => withDates(each.data())), isLive };
          tell();
        }
      },
      onError,
    );
  });
  tell();
  return () => stops.forEach((stop) => stop());
}

/**
 * Call `onJob` with the job, null where there is none, now and after each change. Returns: stop().
 * @param {import("./database.js").Database} db
 * @param {{accountId: string, jobId: string}} where
 * @param {(job: Job | null, isLive: boolean) => void} onJob
 * @param {(error: Error) => void} onError
 */
export function watchJob(db, { accountId, jobId }, onJob, onError) {
  return watchDocument(doc(db, "accounts", accountId, "jobs", jobId), onJob, onError);
}

/**
 * @param {string[]} projects
 * @param {number} statusCount
 */
function inGroups(projects, statusCount) {
  const size = Math.floor(MAX_DISJUNCTIONS / Math.max(1, statusCount));
  return Array.from({ length: Math.ceil(projects.length / size) }, (_, index) =>
    projects.slice(index * size, (index + 1) * size),
  );
}
