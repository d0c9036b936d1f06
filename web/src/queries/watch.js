import { onSnapshot, Timestamp } from "firebase/firestore";

/**
 * Call `onFound` with one document, null where there is none, now and after each change.
 *
 * `isLive` is false while the server cannot be heard; what is then shown may be old. Nothing is said about a document
 * that was never read before: only the server can tell that there is none.
 * @param {import("firebase/firestore").DocumentReference} reference
 * @param {(found: any, isLive: boolean) => void} onFound
 * @param {(error: Error) => void} onError
 * @returns {() => void} stop
 */
export function watchDocument(reference, onFound, onError) {
  return onSnapshot(
    reference,
    { includeMetadataChanges: true },
    (snapshot) => {
      const isLive = !snapshot.metadata.fromCache;
      if (snapshot.exists()) {
        onFound(withDates(snapshot.data()), isLive);
      } else if (isLive) {
        onFound(null, isLive);
      }
    },
    onError,
  );
}

/**
 * Return the fields with every timestamp, also those inside of lists and maps, as a Date.
 * @param {any} value
 * @returns {any}
 */
export function withDates(value) {
  if (value instanceof Timestamp) {
    return value.toDate();
  }
  if (Array.isArray(value)) {
    return value.map(withDates);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withDates(each)]));
  }
  return value;
}
