/** The dashboard: open the site, learn who is signed in, show the page that the path names. */

import { render } from "lit-html";

import { openDatabase } from "./queries/database.js";
import { followPath } from "./router.js";
import { openAuth, watchSession } from "./session.js";
import { openSite } from "./site.js";
import { openJob } from "./views/job.js";
import { openJobs } from "./views/jobs.js";
import { loading, notice } from "./views/notice.js";
import { openShell } from "./views/shell.js";
import { openSignIn } from "./views/sign_in.js";

const root = /** @type {HTMLElement} */ (document.getElementById("page"));
let stop = () => {};

/**
 * Stop what is shown and show something else. `open` returns how to stop it.
 * @param {() => (() => void) | void} open
 */
function show(open) {
  stop();
  render(null, root);
  stop = open() ?? (() => {});
}

/** @param {Error} error */
function showFailure(error) {
  show(() => {
    render(notice("The dashboard could not start", error.message), root);
  });
}

/**
 * @param {import("./views/shell.js").Context} context
 */
function openSignedIn(context) {
  return openShell(root, context, (main) => {
    let close = () => {};
    const stopFollowing = followPath((route) => {
      close();
      render(null, main);
      main.focus({ preventScroll: true });
      if (route.page === "jobs") {
        close = openJobs(main, context);
      } else if (route.page === "job") {
        close = openJob(main, context, route.jobId);
      } else {
        document.title = "No such page · Baton";
        close = () => {};
        render(notice("There is no such page", `Nothing is at ${route.path}.`), main);
      }
    });
    return () => {
      stopFollowing();
      close();
    };
  });
}

async function start() {
  render(loading("Opening the dashboard…"), root);
  const site = await openSite();
  const auth = openAuth(site);
  const db = openDatabase(site);
  watchSession(
    auth,
    (session) =>
      show(() =>
        session
          ? openSignedIn({ auth, db, session, isLocal: site.emulators !== undefined })
          : openSignIn(root, auth),
      ),
    showFailure,
  );
}

start().catch(showFailure);
