import { html, nothing } from "lit-html";

import "../elapsed.js";
import { grouped, moment, money } from "../format.js";
import { doneCount, presentCounts, reasonWords, statusWords } from "../statuses.js";
import { copyable } from "./copyable.js";
import { badge, bar, liveness } from "./status.js";

/** @typedef {import("../queries/jobs.js").Job} Job */

/**
 * All that is known of a job as a whole.
 * @param {Job} job
 * @param {boolean} isLive
 */
export function jobSummary(job, isLive) {
  return html`
    <header class="job-head">
      <p class="crumbs">
        <a href="/">Jobs</a> <span aria-hidden="true">/</span> ${job.project} <span aria-hidden="true">/</span>
        <span class="id">${job.job_id}</span> ${liveness(isLive)}
      </p>
      <h1>${job.title}</h1>
      <p class="state">${badge(job.status)} ${why(job)}</p>
      ${bar(job.counts, job.task_count)} ${legend(job)}
      ${figures(job)}
      <dl class="facts">
        ${fact("Output", copyable(job.output_path))} ${fact("Owner", job.owner)}
        ${fact("Priority", job.priority)} ${fact("Orchestrator", job.orchestrator_id || nothing)}
        ${Object.entries(job.metadata).map(([name, value]) => fact(name, value))}
      </dl>
    </header>
  `;
}

/** @param {Job} job */
function why(job) {
  if (job.sync.state === "failed" && job.sync.reason) {
    return html`<span class="why">${job.sync.reason}</span>`;
  }
  if (!job.waiting_for) {
    return nothing;
  }
  const words = reasonWords(job.waiting_for);
  const note = job.waiting_note && job.waiting_note !== words ? ` · ${job.waiting_note}` : "";
  return html`
    <span class="why">Waiting: <strong>${words}</strong>${note}</span>
  `;
}

/** @param {Job} job */
function legend(job) {
  const parts = presentCounts(job.counts);
  const known = parts.reduce((sum, { count }) => sum + count, 0);
  return html`
    <ul class="legend" aria-label="Tasks by status">
      ${parts.map(
        ({ status, count }) => html`
          <li data-status=${status}><b>${grouped(count)}</b> ${statusWords(status)}</li>
        `,
      )}
      ${known < job.task_count
        ? html`<li class="unknown"><b>${grouped(job.task_count - known)}</b> being laid out</li>`
        : nothing}
    </ul>
  `;
}

/** @param {Job} job */
function figures(job) {
  const percent = Math.floor((100 * doneCount(job.counts)) / Math.max(1, job.task_count));
  return html`
    <dl class="figures">
      ${figure("Done", `${percent} %`, `${grouped(doneCount(job.counts))} of ${grouped(job.task_count)} tasks`)}
      ${figure("Cost so far", money(job.cost_micros), `at ${money(job.price_micros_per_minute)} a minute each`)}
      ${figure("Instances", job.instance_type, job.is_preemptible ? "preemptible" : "standard, not preemptible")}
      ${figure("Submitted", html`<elapsed-time .from=${job.created_at}></elapsed-time> ago`, moment(job.created_at))}
      ${figure(
        job.ended_at ? "Rendered for" : "Rendering for",
        job.started_at
          ? html`<elapsed-time .from=${job.started_at} .until=${job.ended_at}></elapsed-time>`
          : "not started",
        times(job),
      )}
    </dl>
  `;
}

/** @param {Job} job */
function times(job) {
  if (!job.started_at) {
    return nothing;
  }
  return job.ended_at
    ? `${moment(job.started_at)} – ${moment(job.ended_at)}`
    : `since ${moment(job.started_at)}`;
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {unknown} note
 */
function figure(name, value, note) {
  return html`<div><dt>${name}</dt><dd>${value}<small>${note}</small></dd></div>`;
}

/**
 * One line of a list of facts; none where there is nothing to say.
 * @param {string} name
 * @param {unknown} value
 */
export function fact(name, value) {
  return value === nothing ? nothing : html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
}
