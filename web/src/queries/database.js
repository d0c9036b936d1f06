import { connectFirestoreEmulator, getFirestore } from "firebase/firestore";

/** @typedef {import("firebase/firestore").Firestore} Database */

/**
 * Open the database of a site.
 * @param {import("../site.js").Site} site
 * @returns {Database}
 */
export function openDatabase({ app, emulators }) {
  const db = getFirestore(app);
  if (emulators) {
    const [host, port] = emulators.firestore.split(":");
    connectFirestoreEmulator(db, /** @type {string} */ (host), Number(port));
  }
  return db;
}
