import { HoldfastError } from '../../base/errors.ts';
import { joinHeaders, MAX_HEAD_BYTES, malformed, parseResponseHead as parseHead } from '../../http/response-head.ts';
import type { UpgradeResponseHead } from './handshake.ts';

/**
 * Reads the head of an HTTP/1.1 response at the beginning of `bytes` (RFC 9112 §4, §5), as a client needs it before its
 * connection becomes a WebSocket. `length` says where the bytes behind it begin.
 *
 * @returns undefined while the head is incomplete.
 * @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE when it is malformed or longer than 16 KiB.
 */
export function parseResponseHead(bytes: Buffer): (UpgradeResponseHead & { readonly length: number }) | undefined {
  const length = bytes.subarray(0, MAX_HEAD_BYTES).indexOf('\r\n\r\n') + 4;
  if (length < 4 && bytes.length < MAX_HEAD_BYTES) return undefined;
  try {
    if (length < 4) throw malformed(`its head is longer than ${MAX_HEAD_BYTES} bytes`);
    const { status, isHttp10, rawHeaders } = parseHead(bytes.toString('latin1', 0, length));
    if (isHttp10 || status >= 600) throw malformed('it does not begin with a status line of HTTP/1.1');
    return { status, headers: joinHeaders(rawHeaders), length };
  } catch (cause) {
    const { message } = cause as Error;
    throw new HoldfastError('ERR_WS_BAD_HANDSHAKE', `${message}; is it an HTTP server?`, { cause });
  }
}
