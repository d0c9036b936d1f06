/** Where this site is served from. Firebase Hosting answers init.json; the local stack's gateway does the same. */

import { initializeApp } from "firebase/app";

/**
 * `emulators` holds host:port of each emulator, and is absent wherever the site is really deployed.
 * @typedef {object} Site
 * @property {import("firebase/app").FirebaseApp} app
 * @property {{auth: string, firestore: string} | undefined} emulators
 */

/**
 * Read the site's configuration and open it.
 * @returns {Promise<Site>}
 */
export async function openSite() {
  const reply = await fetch("/__/firebase/init.json");
  if (!reply.ok) {
    throw new Error(`/__/firebase/init.json answered ${reply.status}`);
  }
  const { emulators, ...options } = await reply.json();
  return { app: initializeApp(options), emulators };
}
