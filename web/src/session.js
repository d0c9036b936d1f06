/** Who is signed in. Knows Firebase Auth; the account and the role come from the token's claims. */

import {
  browserLocalPersistence,
  connectAuthEmulator,
  indexedDBLocalPersistence,
  initializeAuth,
  onIdTokenChanged,
  signInWithEmailAndPassword,
} from "firebase/auth";

/** @typedef {import("firebase/auth").Auth} Auth */

/**
 * `accountId` is empty for somebody who belongs to no account; `projects` is null for who may see all of them.
 * @typedef {object} Session
 * @property {string} email
 * @property {string} accountId
 * @property {string} role
 * @property {string[] | null} projects
 */

const REASONS = new Map([
  ["auth/invalid-credential", "The email or the password is wrong."],
  ["auth/user-not-found", "The email or the password is wrong."],
  ["auth/wrong-password", "The email or the password is wrong."],
  ["auth/invalid-email", "That is not an email address."],
  ["auth/missing-password", "Type your password."],
  ["auth/user-token-expired", "Your session has ended. Sign in again."],
  ["auth/invalid-refresh-token", "Your session has ended. Sign in again."],
  ["auth/user-disabled", "This user has been switched off. Ask an administrator of your account."],
  ["auth/too-many-requests", "Too many attempts. Wait a few minutes, then try again."],
  ["auth/network-request-failed", "The sign-in service cannot be reached. Check the network."],
]);

/**
 * @param {import("./site.js").Site} site
 * @returns {Auth}
 */
export function openAuth({ app, emulators }) {
  const auth = initializeAuth(app, {
    persistence: [indexedDBLocalPersistence, browserLocalPersistence],
  });
  if (emulators) {
    connectAuthEmulator(auth, `http://${emulators.auth}`, { disableWarnings: true });
  }
  return auth;
}

/**
 * Call `onSession` with who is signed in, or null, now and after each change of it.
 * @param {Auth} auth
 * @param {(session: Session | null) => void} onSession
 * @param {(error: Error) => void} onError
 * @returns {() => void} stop
 */
export function watchSession(auth, onSession, onError) {
  let told = "";
  return onIdTokenChanged(
    auth,
    async (user) => {
      try {
        const session = user && sessionOf(user.email ?? user.uid, (await user.getIdTokenResult()).claims);
        // Tokens are renewed every hour; that is news only when somebody else, or another right, comes of it.
        if (auth.currentUser === user && JSON.stringify(session) !== told) {
          told = JSON.stringify(session);
          onSession(session);
        }
      } catch (error) {
        onError(/** @type {Error} */ (error));
      }
    },
    onError,
  );
}

/**
 * @param {string} email
 * @param {Record<string, unknown>} claims
 * @returns {Session}
 */
export function sessionOf(email, { account, role, projects }) {
  const seesAll = role === "owner" || role === "admin" || !Array.isArray(projects);
  return {
    email,
    accountId: typeof account === "string" ? account : "",
    role: typeof role === "string" ? role : "",
    projects: seesAll ? null : [...projects].sort(),
  };
}

/**
 * Sign in. Raises: Error whose message can be shown as it is.
 * @param {Auth} auth
 * @param {string} email
 * @param {string} password
 */
export async function signIn(auth, email, password) {
  try {
    return (await signInWithEmailAndPassword(auth, email, password)).user;
  } catch (error) {
    throw inWords(error);
  }
}

/**
 * Return a token that says what the user may do now. Raises: Error whose message can be shown as it is.
 * @param {import("firebase/auth").User} user
 */
export async function freshToken(user) {
  try {
    return await user.getIdToken(true);
  } catch (error) {
    throw inWords(error);
  }
}

/** @param {unknown} error */
function inWords(error) {
  const { code, message } = /** @type {import("firebase/app").FirebaseError} */ (error);
  return new Error(REASONS.get(code) ?? message, { cause: error });
}
