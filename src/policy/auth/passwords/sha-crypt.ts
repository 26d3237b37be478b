import { hash } from 'node:crypto';

interface Variant {
  readonly algorithm: 'sha256' | 'sha512';
  readonly bytes: number;
  /** Which bytes of the digest are written together, the highest first; -1 for none. */
  readonly order: readonly (readonly [number, number, number])[];
}

const VARIANTS: Readonly<Record<string, Variant>> = {
  5: { algorithm: 'sha256', bytes: 32, order: [...turning(10, [0, 10, 20], [2, 0, 1]), [-1, 31, 30]] },
  6: { algorithm: 'sha512', bytes: 64, order: [...turning(21, [0, 21, 42], [1, 2, 0]), [-1, -1, 63]] },
};
const DIGITS = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const SETTING = /^\$([56])\$(?:rounds=(\d+)\$)?([./0-9A-Za-z]+)\$/;

/**
 * The digest that crypt() writes after `$5$salt$` or `$6$salt$` (Ulrich Drepper, "Unix crypt using SHA-256 and
 * SHA-512", version 0.6; its numbers of the steps are named).
 *
 * Written here, as the packages that have it refuse passwords of 32 and 64 bytes, or know one of the two variants only
 * (docs/decisions/0061-password-files.md).
 *
 * @param setting A hash, or what stands before its digest.
 */
export function shaCrypt(password: Uint8Array, setting: string): string {
  const [, id, rounds = '5000', saltText] = SETTING.exec(setting)!;
  const { algorithm, bytes, order } = VARIANTS[id!]!;
  const salt = Buffer.from(saltText!);
  const digestOf = (...parts: readonly Uint8Array[]) => hash(algorithm, Buffer.concat(parts), 'buffer');

  // 4–8, and 9–10: as many of its bytes as the password has.
  const b = digestOf(password, salt, password);
  const a: Uint8Array[] = [password, salt, repeated(b, password.length)];
  // 11: the bits of the length, the lowest first.
  for (let length = password.length; length > 0; length >>= 1) a.push(length & 1 ? b : password);
  let c = digestOf(...a);
  // 13–16, and 17–20.
  const p = repeated(digestOf(...Array<Uint8Array>(password.length).fill(password)), password.length);
  const s = repeated(digestOf(...Array<Uint8Array>(16 + c[0]!).fill(salt)), salt.length);
  // 21. One buffer for all rounds: they are what takes the time.
  const round = Buffer.allocUnsafe(2 * p.length + s.length + bytes);
  let end = 0;
  const add = (part: Uint8Array) => {
    round.set(part, end);
    end += part.length;
  };
  for (let i = 0; i < Number(rounds); i++) {
    end = 0;
    add(i & 1 ? p : c);
    if (i % 3 !== 0) add(s);
    if (i % 7 !== 0) add(p);
    add(i & 1 ? c : p);
    c = hash(algorithm, round.subarray(0, end), 'buffer');
  }
  // 22.
  return order.map(triple => digitsOf(c, triple)).join('');
}

/** So many bytes of a digest that is repeated without end. */
function repeated(digest: Uint8Array, length: number): Buffer {
  return Buffer.alloc(length, digest);
}

/** Three bytes are four digits of six bits, the lowest first; two are three digits, one is two. */
function digitsOf(digest: Uint8Array, triple: readonly number[]): string {
  const present = triple.filter(index => index >= 0).length;
  let value = triple.reduce((sum, index) => sum * 256 + (index < 0 ? 0 : digest[index]!), 0);
  let digits = '';
  for (let i = 0; i <= present; i++, value >>= 6) digits += DIGITS[value & 63];
  return digits;
}

/** Each triple has the bytes after those of the one before, and its places turned. */
function turning(
  count: number,
  first: readonly [number, number, number],
  turn: readonly [number, number, number],
): (readonly [number, number, number])[] {
  const triples: (readonly [number, number, number])[] = [];
  let triple = first;
  for (let i = 0; i < count; i++) {
    triples.push(triple);
    const next = triple.map(byte => byte + 1);
    triple = [next[turn[0]]!, next[turn[1]]!, next[turn[2]]!];
  }
  return triples;
}
