import { html, nothing, render } from "lit-html";

import { signIn } from "../session.js";

/**
 * Show the form to sign in with. Whoever watches the session learns of success. Returns: stop().
 * @param {HTMLElement} root
 * @param {import("../session.js").Auth} auth
 */
export function openSignIn(root, auth) {
  document.title = "Sign in · Baton";
  render(
    html`<main class="sign-in">
      <h1 class="brand"><img src="/favicon.svg" alt="" /> Baton</h1>
      <p>Sign in to see your studio's jobs.</p>
      <div></div>
    </main>`,
    root,
  );
  const form = /** @type {HTMLElement} */ (root.querySelector("main > div"));
  openSignInForm(form, "Sign in", (email, password) => signIn(auth, email, password));
  return () => {};
}

/**
 * Show the fields and the button; `submit` raises what is then said below them.
 * @param {HTMLElement} root
 * @param {string} label
 * @param {(email: string, password: string) => Promise<unknown>} submit
 */
export function openSignInForm(root, label, submit) {
  let isBusy = false;
  let problem = "";

  const send = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
    isBusy = true;
    problem = "";
    show();
    try {
      await submit(String(fields.get("email")).trim(), String(fields.get("password")));
    } catch (error) {
      problem = /** @type {Error} */ (error).message;
    }
    isBusy = false;
    show();
  };

  const show = () =>
    render(
      html`
        <form @submit=${send}>
          <label>Email <input name="email" type="email" autocomplete="username" required autofocus /></label>
          <label>
            Password
            <input name="password" type="password" autocomplete="current-password" required />
          </label>
          <button class="primary" ?disabled=${isBusy}>${isBusy ? "Signing in…" : label}</button>
          ${problem ? html`<p class="problem" role="alert">${problem}</p>` : nothing}
        </form>
      `,
      root,
    );
  show();
  /** @type {HTMLElement} */ (root.querySelector("input")).focus();
}
