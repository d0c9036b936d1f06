import { signOut } from "firebase/auth";
import { html, nothing, render } from "lit-html";

import { watchAccount } from "../queries/accounts.js";
import { notice } from "./notice.js";

/**
 * What every page is given.
 * @typedef {object} Context
 * @property {import("../session.js").Auth} auth
 * @property {import("../queries/database.js").Database} db
 * @property {import("../session.js").Session} session
 * @property {boolean} isLocal
 */

/**
 * Show the bar at the top, and below it what `openMain` shows. Returns: stop().
 * @param {HTMLElement} root
 * @param {Context} context
 * @param {(main: HTMLElement) => () => void} openMain
 */
export function openShell(root, { auth, db, session, isLocal }, openMain) {
  const show = (/** @type {string} */ accountName) =>
    render(
      html`
        <header class="top">
          <a class="brand" href="/"><img src="/favicon.svg" alt="" /> Baton</a>
          <nav><a href="/">Jobs</a></nav>
          ${isLocal ? html`<span class="tag" title="This farm runs on one machine">local</span>` : nothing}
          <span class="who">
            <strong>${accountName}</strong>
            <span>${session.email}</span>
            <span class="tag">${session.role || "no role"}</span>
          </span>
          <button @click=${() => signOut(auth)}>Sign out</button>
        </header>
        <main tabindex="-1"></main>
      `,
      root,
    );
  show(session.accountId);
  const main = /** @type {HTMLElement} */ (root.querySelector("main"));
  if (!session.accountId) {
    document.title = "No account · Baton";
    render(
      notice(
        "You belong to no account yet",
        `${session.email} is signed in, but no administrator has added this user to an account.`,
      ),
      main,
    );
    return () => {};
  }
  const stopAccount = watchAccount(
    db,
    session,
    (account) => show(account?.name || session.accountId),
    (error) => show(`${session.accountId} (${error.message})`),
  );
  const stopMain = openMain(main);
  return () => {
    stopMain();
    stopAccount();
  };
}
