import { HoldfastError } from '../../base/errors.ts';
import { isToken } from '../../http/token.ts';
import type { UpgradeResponseHead } from './handshake.ts';

/** As much as Node's own parser takes. */
const MAX_HEAD_BYTES = 16 * 1024;

/**
 * Reads the head of an HTTP/1.1 response at the beginning of `bytes` (RFC 9112 §4, §5), as a client needs it before its
 * connection becomes a WebSocket. `length` says where the bytes behind it begin.
 *
 * @returns undefined while the head is incomplete.
 * @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE when it is malformed or longer than 16 KiB.
 */
export function parseResponseHead(bytes: Buffer): (UpgradeResponseHead & { readonly length: number }) | undefined {
  const end = bytes.subarray(0, MAX_HEAD_BYTES).indexOf('\r\n\r\n');
  if (end < 0) {
    if (bytes.length >= MAX_HEAD_BYTES) throw malformed(`is longer than ${MAX_HEAD_BYTES} bytes`);
    return undefined;
  }
  const [statusLine, ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const status = /^HTTP\/1\.1 ([1-5]\d\d)(?: [^\r\n]*)?$/.exec(statusLine!)?.[1];
  if (status === undefined) throw malformed('does not begin with an HTTP/1.1 status line');
  const headers: Record<string, string> = Object.create(null);
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(colon, 0)).toLowerCase();
    if (!isToken(name) || /[\r\n\0]/.test(line)) throw malformed('has a line that is not a header');
    const value = line.slice(colon + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  return { status: Number(status), headers, length: end + 4 };
}

function malformed(what: string): HoldfastError {
  return new HoldfastError('ERR_WS_BAD_HANDSHAKE', `the head of the server's answer ${what}; is it an HTTP server?`);
}
