/** A time as text, which is made once for all lines of the same `unitMs`. */
export function keptFor(unitMs: number, write: (ms: number) => string): (ms: number) => string {
  let unit = Number.NaN;
  let written = '';
  return ms => {
    const now = Math.floor(ms / unitMs);
    if (now !== unit) {
      written = write(ms);
      unit = now;
    }
    return written;
  };
}
