import { doc } from "firebase/firestore";

import { watchDocument } from "./watch.js";

/** @typedef {{name: string, max_instances: number}} Account */

/**
 * Call `onAccount` with the account now and after each change. Returns: stop().
 * @param {import("./database.js").Database} db
 * @param {{accountId: string}} where
 * @param {(account: Account | null) => void} onAccount
 * @param {(error: Error) => void} onError
 */
export function watchAccount(db, { accountId }, onAccount, onError) {
  return watchDocument(doc(db, "accounts", accountId), onAccount, onError);
}
