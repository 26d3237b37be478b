/**
 * Which of its states a record is in: a whole number of two parts, `lineage × 256 + counter`.
 *
 * A lineage is random. It is new when a record is created, and whenever a record is written by somebody who has not
 * written, itself and last, what is there; otherwise the counter goes on. So a version says one thing for ever, also in
 * a store that was set back to an earlier state (a replica without the latest writes took over, a backup was restored):
 * what is written then has a version that nobody has seen. Only versions of one lineage have an order; of any other two
 * it is only known whether they are the same.
 */
const COUNTS = 256;
const MAX_LINEAGE = Math.floor(Number.MAX_SAFE_INTEGER / COUNTS);
/**
 * A chance of one in a thousand million to meet a lineage that was lost, and room for some 65,000 lineages before they
 * begin again below.
 */
const MAX_LEAP = 2 ** 30;

/**
 * The version of a record that is being created.
 *
 * @example
 * import { firstVersion } from 'holdfast/session';
 *
 * console.log(Number.isSafeInteger(firstVersion())); // true
 */
export function firstVersion(): number {
  return Math.ceil(Math.random() * 2 ** 44) * COUNTS;
}

/**
 * The version after a commit.
 *
 * @param version What the record has.
 * @param follows `SessionChanges.follows` of the commit.
 *
 * @example
 * import { firstVersion, nextVersion } from 'holdfast/session';
 *
 * const version = firstVersion();
 * console.log(nextVersion(version, version) === version + 1); // true
 * console.log(nextVersion(version, undefined) > version + 1); // true
 */
export function nextVersion(version: number, follows: number | undefined): number {
  const next = version + 1;
  if (version === follows && next % COUNTS > 0) return next;
  const leap = randomLeap();
  // Upwards: processes from before there were lineages take a higher number for a later version.
  const lineage = Math.floor(version / COUNTS) + leap;
  return (lineage <= MAX_LINEAGE ? lineage : leap) * COUNTS;
}

/** For stores that count in a language of their own: by how much the lineage grows when it is a new one. 1 to 2³⁰. */
export function randomLeap(): number {
  return 1 + Math.floor(Math.random() * MAX_LEAP);
}

/**
 * True when the first is of a later state than the second. False proves nothing: there may be no order between them.
 */
export function isLater(version: number, than: number): boolean {
  return version > than && Math.floor(version / COUNTS) === Math.floor(than / COUNTS);
}
