import { hash } from 'node:crypto';
import { hostname } from 'node:os';

/**
 * How many there are. A number of milliseconds has room for so many fractions of one, exactly, until the year 2109: a
 * double has 53 bits, and the time takes 42 of them.
 */
const MARKS = 2048;

/** Managers of this process: a test has several on one store. */
let count = 0;

/**
 * Says in the fraction of a last access which process it is of. So all who read the last access learn that as well, and
 * no store has to keep more.
 *
 * Marks are of a hash of the machine's name, and of the process id: processes of one machine have different ones, unless
 * their ids lie a multiple of 2,047 apart. Two of different machines, whatever their names and ids, have the same one by a
 * chance of 1 in 2,047; then their turns are not told apart.
 */
export class AccessMark {
  readonly #fraction: number;

  constructor(number: number = markNumber(hostname(), process.pid) + count++) {
    this.#fraction = ((number % (MARKS - 1)) + 1) / MARKS;
  }

  /** The time as a last access of this process: earlier by less than a millisecond. The same again for what it gave. */
  at(time: number): number {
    return Math.ceil(time) - this.#fraction;
  }

  /** The first one that comes after this last access. */
  after(lastAccessedAt: number): number {
    const at = this.at(lastAccessedAt);
    return at > lastAccessedAt ? at : at + 1;
  }

  /** Of another process. False where that is not known. */
  isOther(lastAccessedAt: number): boolean {
    const fraction = Math.ceil(lastAccessedAt) - lastAccessedAt;
    return fraction !== this.#fraction && fraction !== 0;
  }
}

/** True when a last access says which process it is of. An older version, or a store that rounds, says nothing. */
export function isMarked(lastAccessedAt: number): boolean {
  return !Number.isInteger(lastAccessedAt);
}

/** Of the machine a hash, so that those with numbers in their names lie apart; those of one machine differ as their ids. */
export function markNumber(host: string, pid: number): number {
  return hash('sha256', host, 'buffer').readUInt32BE(0) + pid;
}
