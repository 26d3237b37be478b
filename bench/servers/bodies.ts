/** How many different bodies there are of each size: an answer that belongs to another request shows. */
export const BODIES = 8;

const made = new Map<string, Buffer>();

/** What client and backend both know without telling each other: body number `index` of `size` bytes. */
export function bodyOf(index: number, size: number): Buffer {
  const key = `${index}/${size}`;
  const known = made.get(key);
  if (known) return known;
  const body = Buffer.alloc(size, `${index}:abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ `);
  made.set(key, body);
  return body;
}
