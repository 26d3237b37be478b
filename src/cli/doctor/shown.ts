import type { Ending } from './probe-socket.ts';

const MOST_CHARACTERS = 80;

/**
 * What a server says of itself, for a terminal: in one line, short, and without the characters that steer one. A server
 * could otherwise write whatever it likes over what stands there.
 */
export function shown(text: string): string {
  const plain = text.slice(0, MOST_CHARACTERS * 2).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
  return plain.length > MOST_CHARACTERS ? `${plain.slice(0, MOST_CHARACTERS)}...` : plain;
}

/** A length of time as people read it: `40 ms`, `1.2 s`, `70 s`. */
export function shownTime(ms: number): string {
  const whole = Math.round(ms);
  if (whole < 1_000) return `${whole} ms`;
  return ms < 9_950 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`;
}

/** How a WebSocket ended: `it ends with 1008 "policy"`. */
export function shownEnding({ how, code, reason }: Ending): string {
  if (how !== 'close') return 'it ends without a close frame (1006)';
  return `it ends with ${code}${reason === '' ? '' : ` "${shown(reason)}"`}`;
}

/** Where a redirect leads. Users, queries and what stands behind `;` may be secrets. */
export function shownLocation(location: string): string {
  return shown(location.replace(/[?#;].*/s, '').replace(/\/\/[^/]*@/, '//'));
}
