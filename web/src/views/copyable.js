import { html } from "lit-html";

/**
 * Text in a fixed-width face with a button that copies it.
 * @param {string} text
 */
export function copyable(text) {
  const copy = async (/** @type {MouseEvent} */ event) => {
    const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  };
  return html`<code>${text}</code> <button class="small" @click=${copy}>Copy</button>`;
}
