/**
 * Return where a Conductor client on this machine listens, or null where the address is anything else.
 *
 * A token is only ever handed to the machine that the browser runs on; the server checks the same again.
 * @param {string | null} address
 */
export function loopbackOf(address) {
  const url = address ? URL.parse(address) : null;
  const isLoopback =
    url?.protocol === "http:" &&
    ["localhost", "127.0.0.1"].includes(url.hostname) &&
    url.port !== "" &&
    url.pathname === "/index.html";
  return isLoopback && url.href === `${url.origin}/index.html` ? url : null;
}
