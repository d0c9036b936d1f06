/**
 * Show a cell's words beside it while the pointer or the focus is on it. Returns: stop().
 *
 * Screen readers hear the same words as the cell's own label, so the tooltip is hidden from them.
 * @param {HTMLElement} root
 */
export function openTooltip(root) {
  const stopping = new AbortController();
  const tooltip = document.createElement("div");
  tooltip.className = "tooltip";
  tooltip.hidden = true;
  tooltip.setAttribute("aria-hidden", "true");
  document.body.append(tooltip);
  /** @type {Element | null} */
  let cell = null;

  const show = () => {
    tooltip.hidden = !cell?.isConnected;
    if (!cell || tooltip.hidden) {
      return;
    }
    tooltip.textContent = cell.ariaLabel;
    const { left, top, width } = cell.getBoundingClientRect();
    const { width: own, height } = tooltip.getBoundingClientRect();
    const x = Math.min(innerWidth - own - 8, Math.max(8, left + width / 2 - own / 2));
    tooltip.style.translate = `${x}px ${Math.max(8, top - height - 6)}px`;
  };
  const point = (/** @type {Event} */ { target }) => {
    cell = target instanceof Element ? target.closest("[data-task]") : null;
    show();
  };
  const leave = () => {
    cell = null;
    show();
  };
  const changed = new MutationObserver(() => cell && show());
  changed.observe(root, { subtree: true, attributeFilter: ["aria-label"] });
  for (const kind of ["pointerover", "focusin"]) {
    root.addEventListener(kind, point, stopping);
  }
  for (const kind of ["pointerleave", "focusout"]) {
    root.addEventListener(kind, leave, stopping);
  }
  addEventListener("scroll", leave, { signal: stopping.signal, passive: true });
  return () => {
    stopping.abort();
    changed.disconnect();
    tooltip.remove();
  };
}
