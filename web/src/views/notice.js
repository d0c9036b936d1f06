import { html } from "lit-html";

/**
 * Say something that takes the place of a page.
 * @param {string} title
 * @param {string} sentence
 */
export function notice(title, sentence) {
  return html`
    <section class="notice" role="alert">
      <h1>${title}</h1>
      <p>${sentence}</p>
      <p><a href="/">All jobs</a></p>
    </section>
  `;
}

/** @param {string} words */
export function loading(words) {
  return html`<p class="loading" role="status">${words}</p>`;
}

/**
 * Say why a page cannot be shown.
 * @param {Error} error
 * @param {string} what
 */
export function refusal(error, what) {
  return /** @type {{code?: string}} */ (error).code === "permission-denied"
    ? notice("You may not see this", `${what} belongs to a project or an account that is not yours.`)
    : notice("The farm's state cannot be read", error.message);
}
