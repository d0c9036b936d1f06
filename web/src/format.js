/** Figures as people read them. Pure. */

const GROUPED = new Intl.NumberFormat("en-US");
const CENTS = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });

/**
 * Return micro-dollars as dollars, with as many digits as a small sum needs: $0.00035, $0.0042, $12.40.
 * @param {number} micros
 */
export function money(micros) {
  const dollars = micros / 1e6;
  if (micros === 0 || Math.abs(dollars) >= 1) {
    return CENTS.format(dollars);
  }
  const digits = Math.abs(dollars) >= 0.01 ? 4 : 6;
  const [whole, decimals = ""] = Math.abs(dollars).toFixed(digits).split(".");
  return `${dollars < 0 ? "-" : ""}$${whole}.${decimals.replace(/0+$/, "").padEnd(2, "0")}`;
}

/**
 * Return a whole number with its thousands apart.
 * @param {number} count
 */
export function grouped(count) {
  return GROUPED.format(count);
}

/**
 * Return a time span in its two largest units: 8s, 3m 12s, 2h 05m, 3d 4h.
 * @param {number} span_ms
 */
export function duration(span_ms) {
  const seconds = Math.max(0, Math.floor(span_ms / 1000));
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (days) {
    return `${days}d ${/** @type {number} */ (hours) % 24}h`;
  }
  if (hours) {
    return `${hours}h ${String(/** @type {number} */ (minutes) % 60).padStart(2, "0")}m`;
  }
  return minutes ? `${minutes}m ${String(seconds % 60).padStart(2, "0")}s` : `${seconds}s`;
}

/**
 * Return a moment in the reader's own time zone.
 * @param {Date} at
 */
export function moment(at) {
  return at.toLocaleString("en-GB", {
    day: "numeric",
    month: "short",
    year: at.getFullYear() === new Date().getFullYear() ? undefined : "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}

/**
 * Return a size in bytes in the largest binary unit that keeps it above one.
 * @param {number} bytes
 */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const amount = bytes / 1024 ** power;
  return `${power === 0 || amount >= 100 ? Math.round(amount) : amount.toFixed(1)} ${units[power]}`;
}
