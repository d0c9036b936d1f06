/** The page where a Conductor client's user signs in: it ends on the client's own address on this machine. */

import { signOut } from "firebase/auth";
import { html, render } from "lit-html";

import { loopbackOf } from "./redirect.js";
import { freshToken, openAuth, signIn } from "./session.js";
import { openSite } from "./site.js";
import { openSignInForm } from "./views/sign_in.js";

/** @typedef {import("firebase/auth").User} User */

const ANSWER_WITHIN_MS = 15_000;

const root = /** @type {HTMLElement} */ (document.getElementById("page"));
render(
  html`
    <main class="sign-in">
      <h1 class="brand"><img src="/favicon.svg" alt="" /> Baton</h1>
      <p>A Conductor client on this machine asks to work in your name. It waits for 30 seconds.</p>
      <div role="region" aria-label="Sign in"></div>
    </main>
  `,
  root,
);
const form = /** @type {HTMLElement} */ (root.querySelector("[role=region]"));

/** @param {string} words */
function refuse(words) {
  render(html`<p class="problem" role="alert">${words}</p>`, form);
}

/**
 * Trade the signed-in user's token for the client's and go where the client listens. Raises: Error to be shown.
 * @param {User} user
 * @param {URL} redirect
 */
async function handOver(user, redirect) {
  const idToken = await freshToken(user);
  const reply = await fetch("/api/client_token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id_token: idToken, redirect_uri: redirect.href }),
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    throw new Error(answer.error?.message ?? `The farm refused: ${reply.status} ${reply.statusText}`);
  }
  const target = URL.parse(String(answer.redirect_to));
  if (target?.origin !== redirect.origin) {
    throw new Error("The farm answered with an address that is not the client's.");
  }
  location.replace(target);
}

/**
 * Somebody who is signed in to the dashboard needs only to say yes.
 * @param {User} user
 * @param {URL} redirect
 * @param {() => void} onOther
 */
function offer(user, redirect, onOther) {
  const show = (/** @type {boolean} */ isBusy, problem = "") =>
    render(
      html`
        <form @submit=${agree}>
          <button class="primary" autofocus ?disabled=${isBusy}>Continue as ${user.email}</button>
          <button type="button" ?disabled=${isBusy} @click=${onOther}>Use another account</button>
          <p class="problem" role="alert" ?hidden=${!problem}>${problem}</p>
        </form>
      `,
      form,
    );
  const agree = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    show(true);
    try {
      await handOver(user, redirect);
    } catch (error) {
      show(false, /** @type {Error} */ (error).message);
    }
  };
  show(false);
  /** @type {HTMLElement} */ (form.querySelector("button")).focus();
}

async function start() {
  const redirect = loopbackOf(new URLSearchParams(location.search).get("redirect_uri"));
  if (!redirect) {
    refuse("This link does not lead back to a Conductor client on this machine. Start again from the client.");
    return;
  }
  const auth = openAuth(await openSite());
  const ask = () =>
    openSignInForm(form, "Sign in", async (email, password) =>
      handOver(await signIn(auth, email, password), redirect),
    );
  await auth.authStateReady();
  if (auth.currentUser) {
    offer(auth.currentUser, redirect, async () => {
      await signOut(auth);
      render(null, form);
      ask();
    });
  } else {
    ask();
  }
}

start().catch((error) => refuse(error.message));
