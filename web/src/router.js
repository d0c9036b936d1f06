/** Which page a path names. The list is at /, a job at /job/<id>: the link that the clients print. */

/** @typedef {{page: "jobs"} | {page: "job", jobId: string} | {page: "unknown", path: string}} Route */

/**
 * @param {string} path
 * @returns {Route}
 */
export function routeOf(path) {
  if (path === "/" || path === "/index.html" || /^\/jobs\/?$/.test(path)) {
    return { page: "jobs" };
  }
  const jobId = /^\/job\/(\d+)\/?$/.exec(path)?.[1];
  return jobId ? { page: "job", jobId } : { page: "unknown", path };
}

/**
 * Call `onRoute` now and whenever the address changes; links inside the site change it without a reload.
 * @param {(route: Route) => void} onRoute
 * @returns {() => void} stop
 */
export function followPath(onRoute) {
  const follow = () => onRoute(routeOf(location.pathname));
  const stopping = new AbortController();
  addEventListener("popstate", follow, stopping);
  const followLink = (/** @type {MouseEvent} */ event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!(link instanceof HTMLAnchorElement) || !isPlain || link.origin !== location.origin) {
      return;
    }
    event.preventDefault();
    history.pushState(null, "", link.href);
    scrollTo(0, 0);
    follow();
  };
  document.addEventListener("click", followLink, stopping);
  follow();
  return () => stopping.abort();
}

/**
 * Return a value that the address keeps after its question mark, so that a reload or a sent link shows the same.
 * @param {string} name
 */
export function asked(name) {
  return new URLSearchParams(location.search).get(name) ?? "";
}

/**
 * Keep a value in the address; an empty one is taken out.
 * @param {string} name
 * @param {string} value
 */
export function keep(name, value) {
  const address = new URL(location.href);
  if (value) {
    address.searchParams.set(name, value);
  } else {
    address.searchParams.delete(name);
  }
  history.replaceState(null, "", address);
}
