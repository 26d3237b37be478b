declare const crypto: { getRandomValues<T extends Uint8Array>(array: T): T };

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** A random identifier of `bytes` × 8 bits from the system's secure source, as base64url without padding. */
export function randomId(bytes: number): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(bytes)));
}

/** Base64url without padding (RFC 4648 §5). Runs in the browser too, hence not `Buffer`. */
export function toBase64Url(bytes: Uint8Array): string {
  let out = '';
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 6) {
      bits -= 6;
      out += ALPHABET[(held >> bits) & 63];
    }
  }
  return bits > 0 ? out + ALPHABET[(held << (6 - bits)) & 63] : out;
}
