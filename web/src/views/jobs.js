import { html, nothing, render } from "lit-html";
import { repeat } from "lit-html/directives/repeat.js";

import "../elapsed.js";
import { grouped, moment, money } from "../format.js";
import { watchJobs } from "../queries/jobs.js";
import { asked, keep } from "../router.js";
import { JOB_GROUPS, doneCount, reasonWords, statusWords } from "../statuses.js";
import { loading, refusal } from "./notice.js";
import { badge, bar, liveness } from "./status.js";

/** @typedef {import("../queries/jobs.js").Job} Job */

const STEP = 50;

/**
 * Show the jobs, newest first. Returns: stop().
 * @param {HTMLElement} root
 * @param {import("./shell.js").Context} context
 */
export function openJobs(root, { db, session }) {
  document.title = "Jobs · Baton";
  let group = JOB_GROUPS.find(({ name }) => name === asked("show")) ?? JOB_GROUPS[0];
  let words = asked("find");
  let count = STEP;
  /** @type {{jobs: Job[], hasMore: boolean, isLive: boolean} | null} */
  let found = null;
  let stop = () => {};

  const watch = () => {
    stop();
    stop = watchJobs(
      db,
      { ...session, statuses: group?.statuses ?? [], count },
      (news) => {
        found = news;
        show();
      },
      (error) => {
        stop();
        render(refusal(error, "This list"), root);
      },
    );
  };
  const choose = (/** @type {typeof group} */ chosen) => {
    group = chosen;
    count = STEP;
    found = null;
    keep("show", chosen?.name === "all" ? "" : (chosen?.name ?? ""));
    show();
    watch();
  };
  const find = (/** @type {Event} */ event) => {
    words = /** @type {HTMLInputElement} */ (event.target).value;
    keep("find", words);
    show();
  };
  const more = () => {
    count += STEP;
    watch();
  };

  const show = () => {
    const jobs = found?.jobs.filter((job) => matches(job, words)) ?? [];
    render(
      html`
        <div class="heading">
          <h1>Jobs</h1>
          <div class="choices" role="group" aria-label="Which jobs">
            ${JOB_GROUPS.map(
              (each) => html`
                <button aria-pressed=${each === group} @click=${() => choose(each)}>${each.label}</button>
              `,
            )}
          </div>
          <input
            type="search"
            placeholder="Find in these: id, title, project, owner, status"
            aria-label="Find among the jobs shown"
            .value=${words}
            @input=${find}
          />
          ${found ? liveness(found.isLive) : nothing}
        </div>
        ${found ? table(jobs, emptyWords(found.jobs.length, words, group?.name ?? "all")) : loading("Reading the jobs…")}
        ${found?.hasMore
          ? html`<p class="more"><button @click=${more}>Show ${STEP} more</button></p>`
          : nothing}
      `,
      root,
    );
  };

  show();
  watch();
  return () => stop();
}

/**
 * @param {Job} job
 * @param {string} words
 */
function matches(job, words) {
  const text = [job.job_id, job.title, job.project, job.owner, statusWords(job.status)].join(" ");
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.toLowerCase().includes(word));
}

/**
 * @param {number} readCount
 * @param {string} words
 * @param {string} group
 */
function emptyWords(readCount, words, group) {
  if (readCount > 0) {
    return `None of the ${grouped(readCount)} newest jobs here matches “${words}”.`;
  }
  return group === "all"
    ? "No jobs yet. The first one that a Conductor client submits appears here by itself."
    : "No jobs of this kind.";
}

/**
 * @param {Job[]} jobs
 * @param {string} empty
 */
function table(jobs, empty) {
  if (jobs.length === 0) {
    return html`<p class="empty">${empty}</p>`;
  }
  return html`
    <table class="jobs">
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">Title</th>
          <th scope="col" class="project">Project</th>
          <th scope="col" class="owner">Owner</th>
          <th scope="col">Status</th>
          <th scope="col">Progress</th>
          <th scope="col" class="number cost">Cost</th>
          <th scope="col" class="number">Age</th>
        </tr>
      </thead>
      <tbody>
        ${repeat(jobs, (job) => job.job_id, row)}
      </tbody>
    </table>
  `;
}

/** @param {Job} job */
function row(job) {
  return html`
    <tr>
      <td class="id"><a href="/job/${job.job_id}">${job.job_id}</a></td>
      <td class="title"><a href="/job/${job.job_id}" tabindex="-1" title=${job.title}>${job.title}</a></td>
      <td class="project">${job.project}</td>
      <td class="owner" title=${job.owner}>${job.owner}</td>
      <td>
        ${badge(job.status)}
        ${job.waiting_for
          ? html`<span class="reason" title=${job.waiting_note}>${reasonWords(job.waiting_for)}</span>`
          : nothing}
      </td>
      <td class="progress">
        ${bar(job.counts, job.task_count)}
        <span>${grouped(doneCount(job.counts))} / ${grouped(job.task_count)}</span>
      </td>
      <td class="number cost">${money(job.cost_micros)}</td>
      <td class="number">
        <elapsed-time title=${moment(job.created_at)} .from=${job.created_at}></elapsed-time>
      </td>
    </tr>
  `;
}
